"""How much of everything: `small` suits two CPU cores, `full` has all rows, `tiny` tries the machinery.

`smollm2` is of a real small language model and wants an accelerator; `smollm2-tiny` tries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Size:
    """
    Attributes:
        records: that each arm is trained on; None: all.
        trial_records: of a tuning trial, the first of those.
        trials: of every arm.
        seeds: of the runs in the table; tuning has seed 0 to itself.
        queries: of each test set, at most; None: all.
        validation: queries that settings are chosen on, none of which is trained on or tested.
    """

    records: int | None
    trial_records: int
    trials: int
    seeds: tuple[int, ...]
    queries: int | None
    validation: int


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size(records=48, trial_records=32, trials=2, seeds=(1, 2), queries=6, validation=6),
        "small": Size(records=2_000, trial_records=1_000, trials=4, seeds=(1, 2, 3), queries=300, validation=200),
        "full": Size(records=None, trial_records=2_000, trials=8, seeds=(1, 2, 3, 4, 5), queries=None, validation=500),
        "smollm2": Size(records=1_024, trial_records=256, trials=4, seeds=(1, 2), queries=150, validation=100),
        "smollm2-tiny": Size(records=8, trial_records=8, trials=1, seeds=(1,), queries=3, validation=4),
    }
)
