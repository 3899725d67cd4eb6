"""Examples to micro-batches of whole records: token trees packed to a budget, or padded rows of like length.

Either way a micro-batch says which positions predict which token of which response, so that `forward` needs no more than
those positions and `losses` sees the same flat layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neat_train.examples import Example
from neat_train.losses import Layout
from neat_train.objective_settings import Target

Path = Literal["trees", "batches"]


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """What one forward pass takes, and what its log-probabilities mean.

    Attributes:
        ids: (rows, width) int64; one row of packed trees, or padded rows.
        positions: (rows, width) int64 position ids.
        trees: for each tree the length of its prefix, then of its branches; None for padded rows.
        lengths: (rows,) int64, how much of each row is no padding.
        at: (N,) int64, indices into the flattened rows: the positions that predict.
        targets: (N,) int64, the token that each of them predicts.
        layout: of these N tokens; stays on the host, where `losses.plan_of` wants it.
        tokens: positions that run, padding included.
        answers: responses of records.
    """

    ids: Tensor
    positions: Tensor
    trees: tuple[tuple[int, ...], ...] | None
    lengths: Tensor
    at: Tensor
    targets: Tensor
    layout: Layout
    tokens: int
    answers: int

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same micro-batch with what a model takes on `device`."""
        raise NotImplementedError


def micro_batches(
    examples: Sequence[Example], token_budget: int, path: Path, prompted: Target | None = None
) -> list[MicroBatch]:
    """Micro-batches of whole records within a token budget; a record above it is alone.

    Args:
        token_budget: positions that one forward pass may run, padding included.
        prompted: with `penalty.context` `prompted`: the penalty's target, whose copy behind its own prompt is added.
    """
    raise NotImplementedError


def filler(path: Path) -> MicroBatch:
    """A micro-batch of no record, so that every rank can run the same number: its loss is 0, with a graph."""
    raise NotImplementedError
