"""transformers' loop over optimiser steps of our own: one item of its data loader is the number of one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from neat_train.data.order import steps_an_epoch
from neat_train.training.step_metrics import over_steps

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    _Base = Trainer
else:
    _Base = object


class Stepwise(_Base):
    """To inherit from in front of a Trainer whose `training_step` runs all of a step.

    Attributes:
        records: of an epoch, over all ranks.
        records_per_step: over all ranks.
        unlogged: figures of the steps since the last log.
    """

    records: int
    records_per_step: int
    unlogged: list[dict[str, float]]

    def get_train_dataloader(self) -> DataLoader:
        """The numbers of an epoch's steps; neither shuffled nor shared out, as that is the source's affair."""
        steps = _Steps(steps_an_epoch(self.records, self.records_per_step))
        # With a generator of its own it leaves the global random state alone.
        return DataLoader(steps, collate_fn=lambda items: items[0], generator=torch.Generator())

    def num_examples(self, dataloader: DataLoader) -> int:
        """Records of an epoch."""
        return self.records

    def get_total_train_batch_size(self, args: TrainingArguments) -> int:
        """Records of a step."""
        return self.records_per_step

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: transformers would count padded rows."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the steps since the last log were made of."""
        if "loss" in logs and self.unlogged:
            logs.update(over_steps(self.unlogged))
            self.unlogged = []
        logs.pop("total_flos", None)
        super().log(logs, start_time)


class _Steps(Dataset):
    """Numbers of steps, in the shape that transformers looks for labels in."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> dict[str, int]:
        return {"step": number}
