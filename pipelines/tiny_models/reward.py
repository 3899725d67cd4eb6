"""Reward models: a body with one linear output, trained on pairs by the Bradley-Terry loss.

The rows have one turn each and the dialogues that will be scored have several, so rows of one kind are chained: a
sequence of n rows has n assistant turns, and the score at the end of each is that of the dialogue up to there (the
model is causal). A chain is run twice, with the two responses of each row in random order, so that nothing can be
gained from the earlier responses. Some later queries are cut short, as follow-up questions are: what is asked for must
then be read from the earlier turns.

Two targets beside the human label may be given for each pair, from a linear teacher that did not see the row: its
probability, mixed into the label, and its scores, to be regressed on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.tiny_models.batches import by_length, optimise, pad
from pipelines.tiny_models.contexts import shortened
from pipelines.tiny_models.rows import Pair
from pipelines.tiny_models.tokenizer import Encoder

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification


@dataclass(frozen=True, slots=True)
class Chain:
    """Two sequences over the same rows, and where to read their scores.

    Attributes:
        ids: the two token sequences.
        ends: for each, the position of every row's end of turn.
        chosen: for each row, which of the two sequences (0 or 1) holds the preferred response.
        rows: the rows' numbers, for looking up the teacher.
    """

    ids: tuple[list[int], list[int]]
    ends: tuple[list[int], list[int]]
    chosen: list[int]
    rows: list[int]


def new_reward_model(policy: LlamaForCausalLM, seed: int) -> LlamaForSequenceClassification:
    """A classifier with one output, its body a copy of the policy's."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    shape = {key: value for key, value in policy.config.to_dict().items() if key not in ("id2label", "label2id")}
    config = LlamaConfig.from_dict({**shape, "num_labels": 1, "tie_word_embeddings": False})
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(policy.model.state_dict())
    torch.nn.init.normal_(model.score.weight, std=0.01)
    return model


def chains(pairs: Sequence[Pair], encoder: Encoder, settings: dict, rng: random.Random) -> list[Chain]:
    """Every row of `pairs` once, some alone and the rest chained with others of their kind."""
    result = []
    for kind in sorted({pair.kind for pair in pairs}):
        left = [i for i, pair in enumerate(pairs) if pair.kind == kind]
        rng.shuffle(left)
        while left:
            length = 1 if rng.random() < settings["single"] else rng.randint(2, settings["longest_chain"])
            taken, left = left[:length], left[length:]
            result.append(_chain(pairs, taken, encoder, settings["short_query"], rng))
    return result


def _chain(pairs: Sequence[Pair], rows: list[int], encoder: Encoder, short_query: float, rng: random.Random) -> Chain:
    ids: tuple[list[int], list[int]] = ([encoder.bos], [encoder.bos])
    ends: tuple[list[int], list[int]] = ([], [])
    chosen = []
    for number, row in enumerate(rows):
        pair = pairs[row]
        shorten = number > 0 and rng.random() < short_query
        query = encoder.query(shortened(pair.query, rng) if shorten else pair.query)[1:]
        side = rng.randrange(2)
        chosen.append(side)
        for sequence in (0, 1):
            text = pair.chosen if sequence == side else pair.rejected
            ids[sequence].extend([*query, *encoder.response(text)])
            ends[sequence].append(len(ids[sequence]) - 1)
    return Chain(ids, ends, chosen, rows)


def scores_at(model: LlamaForSequenceClassification, ids: torch.Tensor, ends: list[list[int]]) -> torch.Tensor:
    """Scores at the given positions, sequence after sequence, (sum of the lengths of `ends`,), float32.

    Args:
        ids: (sequences, longest), padded on the right.
        ends: for each sequence, positions to read.
    """
    import torch

    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    rows = torch.tensor([row for row, positions in enumerate(ends) for _ in positions])
    columns = torch.tensor([position for positions in ends for position in positions])
    with torch.autocast("cpu", enabled=False):
        return model.score(hidden[rows, columns].float()).squeeze(-1)


def chain_loss(
    model: LlamaForSequenceClassification,
    batch: Sequence[Chain],
    teacher: Sequence[tuple[float, float]] | None,
    settings: dict,
    pad_id: int,
) -> torch.Tensor:
    """Mean over the rows of the pairwise loss and, with a teacher, of the squared distance to its scores.

    Args:
        teacher: for each row of the data, the scores of its chosen and rejected response.
    """
    import torch

    ids = pad([sequence for chain in batch for sequence in chain.ids], pad_id)
    scores = scores_at(model, ids, [ends for chain in batch for ends in chain.ends])
    first, second = _sides(scores, [len(chain.rows) for chain in batch])
    swapped = torch.tensor([side == 1 for chain in batch for side in chain.chosen])
    chosen, rejected = torch.where(swapped, second, first), torch.where(swapped, first, second)
    if teacher is None:
        return pairwise_loss(chosen - rejected, torch.ones_like(chosen))
    taught = torch.tensor([teacher[row] for chain in batch for row in chain.rows])  # (rows, 2)
    believed = torch.sigmoid(taught[:, 0] - taught[:, 1])
    target = 1 - settings["soft"] * (1 - believed)
    distance = torch.cat([chosen - taught[:, 0], rejected - taught[:, 1]]).square().mean()
    return pairwise_loss(chosen - rejected, target) + settings["regression"] * distance


def pairwise_loss(gap: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Bradley-Terry: mean cross entropy of sigmoid(gap) to the probability `target` that the first is preferred."""
    import torch

    return torch.nn.functional.binary_cross_entropy_with_logits(gap, target)


def _sides(scores: torch.Tensor, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of the first and of the second sequence of every chain, each (rows of the batch,)."""
    import torch

    parts = scores.split([n for n in rows for _ in range(2)])
    return torch.cat(parts[0::2]), torch.cat(parts[1::2])


def train_reward(
    model: LlamaForSequenceClassification,
    pairs: Sequence[Pair],
    encoder: Encoder,
    settings: dict,
    seed: int,
    *,
    teacher: Sequence[tuple[float, float]] | None = None,
    log: Callable[[str], None] = print,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train `model` in place on `pairs`, chained anew in every epoch."""
    rng = random.Random(seed)
    epochs = []
    for _ in range(settings["epochs"]):
        linked = chains(pairs, encoder, settings, rng)
        lengths = [2 * max(map(len, chain.ids)) for chain in linked]
        batches = by_length(lengths, settings["tokens_per_step"], rng)
        epochs.append([[linked[i] for i in batch] for batch in batches])

    def loss_of(batch: list[Chain]) -> torch.Tensor:
        return chain_loss(model, batch, teacher, settings, encoder.pad)

    optimise(model, loss_of, epochs, settings, log=log, after_epoch=after_epoch)
