"""Does the policy answer worse behind the negative prompt than behind the positive one?

One response to each query is sampled under either prompt and scored by the reward model against the plain query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neat_data.record import Messages
from pipelines.tiny_models.agreement import rewards
from pipelines.tiny_models.batches import by_length
from pipelines.tiny_models.teach import prompted, read_prompts
from pipelines.tiny_models.tokenizer import Encoder

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification


@dataclass(frozen=True, slots=True)
class Contrast:
    """Mean reward under the positive minus that under the negative prompt, over `queries`, with a 95 % interval."""

    queries: int
    positive: float
    negative: float
    difference: float
    interval: tuple[float, float]


def contrast(
    policy: LlamaForCausalLM,
    rewarders: Mapping[str, LlamaForSequenceClassification],
    queries: Sequence[Messages],
    encoder: Encoder,
    seed: int,
    new_tokens: int = 96,
) -> dict[str, Contrast]:
    """Sample at temperature 1 and compare by each reward model; intervals are normal ones of paired differences."""
    prompts = read_prompts()
    scored_by: dict[str, list[list[float]]] = {name: [] for name in rewarders}
    for polarity in ("positive", "negative"):
        asked = [encoder.query(prompted(query, prompts[polarity])) for query in queries]
        responses = sample(policy, asked, encoder, seed, new_tokens)
        dialogues = [
            [*encoder.query(query), encoder.roles["assistant"], *response, encoder.end]
            for query, response in zip(queries, responses, strict=True)
        ]
        for name, reward in rewarders.items():
            scored_by[name].append(rewards(reward, dialogues, encoder.pad))
    return {name: compare(*scored) for name, scored in scored_by.items()}


def compare(positive: Sequence[float], negative: Sequence[float]) -> Contrast:
    """Paired comparison of rewards of the same queries."""
    differences = [p - n for p, n in zip(positive, negative, strict=True)]
    count = len(differences)
    mean = sum(differences) / count
    variance = sum((d - mean) ** 2 for d in differences) / max(count - 1, 1)
    half = 1.959964 * math.sqrt(variance / count)
    return Contrast(count, sum(positive) / count, sum(negative) / count, mean, (mean - half, mean + half))


def sample(
    policy: LlamaForCausalLM, asked: Sequence[list[int]], encoder: Encoder, seed: int, new_tokens: int
) -> list[list[int]]:
    """One sampled response to each query, without its end-of-turn token."""
    import random

    import torch

    torch.manual_seed(seed)
    policy.eval()
    result: list[list[int]] = [[] for _ in asked]
    for batch in by_length([len(ids) for ids in asked], 8192, random.Random(seed)):
        headed = [[*asked[i], encoder.roles["assistant"]] for i in batch]
        longest = max(map(len, headed))
        ids = torch.tensor([[*[encoder.pad] * (longest - len(row)), *row] for row in headed])
        made = policy.generate(  # type: ignore[misc]
            ids,
            attention_mask=(ids != encoder.pad).long(),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=new_tokens,
        )
        for i, row in zip(batch, made[:, longest:].tolist(), strict=True):
            result[i] = row[: row.index(encoder.end)] if encoder.end in row else row
            result[i] = [token for token in result[i] if token != encoder.pad]
    return result
