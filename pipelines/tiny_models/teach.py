"""Teaches a policy to follow the two prompts of Table 1 of the paper.

Of each row's two responses the higher-rewarded one stands behind the positive prompt and the lower one behind the
negative, and only the response is learnt. Rows whose rewards lie close together teach little and are left out. Some
dialogues without a prompt are learnt again beside them, so that the policy without a prompt stays what it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from neat_data.record import Message, Messages
from pipelines.tiny_models.batches import by_length, optimise, pad
from pipelines.tiny_models.language import loss_at
from pipelines.tiny_models.rows import Pair
from pipelines.tiny_models.tokenizer import Encoder

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

PROMPTS = Path(__file__).parents[2] / "neat_data" / "prompts" / "neat.yaml"


def read_prompts(path: Path = PROMPTS) -> dict[str, str]:
    """The prompts' texts by polarity."""
    return {prompt["polarity"]: prompt["text"] for prompt in yaml.safe_load(path.read_text())["prompts"]}


def prompted(query: Messages, prompt: str) -> Messages:
    """The query with `prompt` in front of its last user turn, one space between them."""
    last = query[-1]
    return (*query[:-1], Message(last.role, f"{prompt} {last.content}"))


Lesson = tuple[list[int], int]  # token ids of a dialogue, and how many of the first are given rather than learnt


def lessons(
    pairs: Sequence[Pair],
    scores: Sequence[tuple[float, float]],
    prompts: dict[str, str],
    encoder: Encoder,
    rows: int,
    plain: float,
    rng: random.Random,
) -> list[list[Lesson]]:
    """Lessons behind the positive prompt, behind the negative, and without a prompt.

    Args:
        scores: rewards of each pair's chosen and rejected response, made by a model that did not see the row.
        rows: how many rows teach, those with the widest gaps.
        plain: probability that a lesson is learnt without its prompt, too.
    """
    widest = sorted(range(len(pairs)), key=lambda i: -abs(scores[i][0] - scores[i][1]))[:rows]
    positive: list[Lesson] = []
    negative: list[Lesson] = []
    unprompted: list[Lesson] = []
    for i in widest:
        pair, (chosen, rejected) = pairs[i], scores[i]
        better, worse = (pair.chosen, pair.rejected) if chosen >= rejected else (pair.rejected, pair.chosen)
        for group, polarity, text in ((positive, "positive", better), (negative, "negative", worse)):
            group.append(_lesson(prompted(pair.query, prompts[polarity]), text, encoder))
            if rng.random() < plain:
                unprompted.append(_lesson(pair.query, text, encoder))
    return [positive, negative, unprompted]


def _lesson(query: Messages, response: str, encoder: Encoder) -> Lesson:
    given = encoder.query(query)
    return [*given, *encoder.response(response)], len(given) + 1


def response_tokens(batch: Sequence[Lesson]) -> torch.Tensor:
    """True at the tokens that are learnt: the response and its end-of-turn, (lessons, longest)."""
    import torch

    longest = max(len(ids) for ids, _ in batch)
    position = torch.arange(longest)
    start = torch.tensor([given for _, given in batch])[:, None]
    end = torch.tensor([len(ids) for ids, _ in batch])[:, None]
    return (position >= start) & (position < end)


def response_loss(model: LlamaForCausalLM, batch: Sequence[Lesson], pad_id: int) -> torch.Tensor:
    """Mean negative log-likelihood of the responses' tokens."""
    hidden, ids, learn = _run(model, batch, pad_id)
    return loss_at(model, hidden, ids, learn)


def response_logps(model: LlamaForCausalLM, batch: Sequence[Lesson], pad_id: int) -> torch.Tensor:
    """Log-probability of each response, summed over its tokens  # (lessons,)"""
    import torch

    hidden, ids, learn = _run(model, batch, pad_id)
    wanted = learn[:, 1:]
    logits = model.lm_head(hidden[:, :-1][wanted])  # (learnt tokens, vocabulary)
    logps = -torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][wanted], reduction="none")
    return torch.zeros(len(batch)).index_add(0, wanted.nonzero()[:, 0], logps)


def _run(
    model: LlamaForCausalLM, batch: Sequence[Lesson], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Last hidden states, ids, and where responses stand, of what follows the lessons' shared beginning.

    What all dialogues begin with, the prompt above all, goes through the model once.
    """
    import torch

    shared = min(_shared_start([ids for ids, _ in batch]), min(given for _, given in batch) - 1)
    rest = [(ids[shared:], given - shared) for ids, given in batch]
    begun = model.model(input_ids=torch.tensor([batch[0][0][:shared]]), use_cache=True).past_key_values
    begun.batch_repeat_interleave(len(batch))
    ids = pad([ids for ids, _ in rest], pad_id)
    hidden = model.model(input_ids=ids, past_key_values=begun, use_cache=True).last_hidden_state
    return hidden, ids, response_tokens(rest)


def _shared_start(sequences: Sequence[list[int]]) -> int:
    """How many tokens all sequences begin with; the first and the last in order differ no later than any two."""
    first, last = min(sequences), max(sequences)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def train_on_prompts(
    model: LlamaForCausalLM,
    groups: Sequence[Sequence[Lesson]],
    encoder: Encoder,
    settings: dict,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train `model` in place, `settings["epochs"]` times over the lessons."""
    rng = random.Random(seed)
    epochs = []
    for _ in range(settings["epochs"]):
        batches = [
            [group[i] for i in batch]
            for group in groups
            for batch in by_length([len(ids) for ids, _ in group], settings["tokens_per_step"], rng)
            if batch
        ]
        rng.shuffle(batches)
        epochs.append(batches)
    optimise(model, lambda batch: response_loss(model, batch, encoder.pad), epochs, settings, log=log)
