"""Log-probabilities of a micro-batch's target tokens, through the model's own forward.

`prepare` chooses the path (token trees, or padded rows where trees prove inexact) and gives the model's forward a
keyword of its own, with which it returns log-probabilities at given positions instead of logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from neat_train.batches import MicroBatch, Path


@dataclass(frozen=True, slots=True)
class Choice:
    """The path taken, and one line that says why."""

    path: Path
    note: str


def prepare(body: PreTrainedModel, path: Literal["auto", "trees", "batches"] = "auto") -> Choice:
    """Give `body` what `logps` needs, and choose the path. Generation stays as it was.

    Raises:
        InputError: `path="trees"` was asked for and is not exact on this model.
    """
    raise NotImplementedError


@contextmanager
def training_attention(body: PreTrainedModel, path: Path) -> Iterator[None]:
    """Attention over trees inside the block (where `path` is `trees`), the model's own outside."""
    raise NotImplementedError


def logps(module: nn.Module, batch: MicroBatch) -> Tensor:
    """Log-probabilities of the batch's targets  # (N,) float32

    `module` is the prepared model itself or wrapped (peft, DDP): it is called, so that hooks of a wrapper run.
    """
    raise NotImplementedError
