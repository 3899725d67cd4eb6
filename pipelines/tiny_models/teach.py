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
from pipelines.tiny_models.language import next_token_loss
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


def lessons(
    pairs: Sequence[Pair],
    scores: Sequence[tuple[float, float]],
    prompts: dict[str, str],
    encoder: Encoder,
    rows: int,
    plain: float,
    rng: random.Random,
) -> list[tuple[list[int], int]]:
    """Token ids of each lesson, and how many of its first tokens are given rather than learnt.

    Args:
        scores: rewards of each pair's chosen and rejected response, made by a model that did not see the row.
        rows: how many rows teach, those with the widest gaps.
        plain: probability that a lesson is followed by the same dialogue without a prompt.
    """
    widest = sorted(range(len(pairs)), key=lambda i: -abs(scores[i][0] - scores[i][1]))[:rows]
    result = []
    for i in widest:
        pair, (chosen, rejected) = pairs[i], scores[i]
        better, worse = (pair.chosen, pair.rejected) if chosen >= rejected else (pair.rejected, pair.chosen)
        for polarity, text in (("positive", better), ("negative", worse)):
            queries = [prompted(pair.query, prompts[polarity])]
            if rng.random() < plain:
                queries.append(pair.query)
            for query in queries:
                given, response = encoder.query(query), encoder.response(text)
                result.append(([*given, *response], len(given) + 1))
    return result


def response_tokens(batch: Sequence[tuple[list[int], int]]) -> torch.Tensor:
    """True at the tokens that are learnt: the response and its end-of-turn, (lessons, longest)."""
    import torch

    longest = max(len(ids) for ids, _ in batch)
    position = torch.arange(longest)
    start = torch.tensor([given for _, given in batch])[:, None]
    end = torch.tensor([len(ids) for ids, _ in batch])[:, None]
    return (position >= start) & (position < end)


def train_on_prompts(
    model: LlamaForCausalLM,
    pairs: Sequence[Pair],
    scores: Sequence[tuple[float, float]],
    encoder: Encoder,
    settings: dict,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train `model` in place, `settings["epochs"]` times over the lessons."""
    rng = random.Random(seed)
    taught = lessons(pairs, scores, read_prompts(), encoder, settings["rows"], settings["plain"], rng)
    lengths = [len(ids) for ids, _ in taught]
    epochs = [
        [[taught[i] for i in batch] for batch in by_length(lengths, settings["tokens_per_step"], rng)]
        for _ in range(settings["epochs"])
    ]

    def loss_of(batch: list[tuple[list[int], int]]) -> torch.Tensor:
        ids = pad([ids for ids, _ in batch], encoder.pad)
        return next_token_loss(model, ids, response_tokens(batch))

    optimise(model, loss_of, epochs, settings, log=log)
