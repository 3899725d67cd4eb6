"""How often a reward model agrees with the human label, with a 95 % Wilson interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.tiny_models.batches import by_length, pad
from pipelines.tiny_models.rows import Pair
from pipelines.tiny_models.tokenizer import Encoder

if TYPE_CHECKING:
    from transformers import LlamaForSequenceClassification


@dataclass(frozen=True, slots=True)
class Agreement:
    """`agreed` of `pairs` pairs; a tie counts as not agreed."""

    agreed: int
    pairs: int

    @property
    def share(self) -> float:
        return self.agreed / self.pairs if self.pairs else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.agreed, self.pairs)


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval (E. B. Wilson 1927, eq. 1); (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return centre - half, centre + half


def rewards(
    model: LlamaForSequenceClassification, sequences: Sequence[list[int]], pad_id: int, budget: int = 8192
) -> list[float]:
    """The model's raw logit of each token sequence, by its own forward pass."""
    import random

    import torch

    model.eval()
    result = [0.0] * len(sequences)
    with torch.inference_mode():
        for batch in by_length([len(s) for s in sequences], budget, random.Random(0)):
            ids = pad([sequences[i] for i in batch], pad_id)
            logits = model(input_ids=ids, attention_mask=(ids != pad_id).long()).logits[:, 0].float().tolist()
            for i, logit in zip(batch, logits, strict=True):
                result[i] = logit
    return result


def gaps(model: LlamaForSequenceClassification, pairs: Sequence[Pair], encoder: Encoder, window: int) -> list[float]:
    """Reward of the chosen minus that of the rejected response, for each pair.

    A dialogue longer than the window loses its oldest turns, the same ones for both responses.
    """
    sequences = []
    for pair in pairs:
        query, responses = encoder.query(pair.query), [encoder.response(t) for t in (pair.chosen, pair.rejected)]
        turns, room = pair.query, window - max(map(len, responses))
        while len(query) > room and len(turns) > 1:
            turns = turns[1:]
            query = encoder.query(turns)
        sequences.extend([[*query, *response] for response in responses])
    scored = rewards(model, sequences, encoder.pad)
    return [c - r for c, r in zip(scored[::2], scored[1::2], strict=True)]


def agreement(gaps: Sequence[float]) -> Agreement:
    """Counts the positive gaps."""
    return Agreement(sum(gap > 0 for gap in gaps), len(gaps))
