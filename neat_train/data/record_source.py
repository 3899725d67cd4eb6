"""Where the records of an optimiser step come from: the dataset as it is, or rounds that grow it on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from neat_data.record import Record
from neat_train.data.order import step_ids
from neat_train.data.records import Records
from neat_train.distributed import Ranks


class RecordSource(Protocol):
    """What the trainer asks for records; every method is collective over the ranks."""

    def step(self, step: int) -> list[Record]:
        """This rank's records of a step; an online source samples here when a block begins."""
        ...

    def saved(self, step: int) -> None:
        """A checkpoint taken after `step` steps is whole: what was sampled up to there need not be sampled again."""
        ...

    def metrics(self) -> dict[str, float]:
        """What the last round measured, for the log; empty where there was none since the last call."""
        ...

    def close(self) -> None:
        """Ends whatever runs beside the training."""
        ...


@dataclass(frozen=True, slots=True)
class Offline:
    """Records as they lie in the dataset."""

    records: Records
    records_per_step: int
    seed: int
    ranks: Ranks

    def step(self, step: int) -> list[Record]:
        """See `RecordSource.step`."""
        ids = step_ids(self.records.ids, step, self.records_per_step, self.seed)
        return [self.records[query] for query in ids[self.ranks.rank :: self.ranks.world]]

    def saved(self, step: int) -> None:
        """See `RecordSource.saved`."""

    def metrics(self) -> dict[str, float]:
        """See `RecordSource.metrics`."""
        return {}

    def close(self) -> None:
        """See `RecordSource.close`."""
