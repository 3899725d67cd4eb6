"""Which records an optimiser step trains on: pure functions of the ids, the step and the seed.

The order is that of a hash over seed, epoch and id, so it depends on no library's random numbers, on no machine and on
no number of ranks. Rank r of W takes `ids[r::W]` of each step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache


def steps_an_epoch(records: int, records_per_step: int) -> int:
    """The last step of an epoch may have fewer records.

    >>> steps_an_epoch(10, 4)
    3
    """
    return -(-records // records_per_step)


def step_ids(ids: Sequence[str], step: int, records_per_step: int, seed: int) -> list[str]:
    """The query ids of one step (from 0), over all ranks; every epoch takes each id once.

    >>> sorted(step_ids("abcde", 3, 2, seed=0) + step_ids("abcde", 4, 2, seed=0) + step_ids("abcde", 5, 2, seed=0))
    ['a', 'b', 'c', 'd', 'e']
    """
    epoch, place = divmod(step, steps_an_epoch(len(ids), records_per_step))
    return list(_epoch(tuple(ids), epoch, seed)[place * records_per_step : (place + 1) * records_per_step])


@lru_cache(maxsize=2)  # a block of queries may reach into the next epoch
def _epoch(ids: tuple[str, ...], epoch: int, seed: int) -> tuple[str, ...]:
    return tuple(sorted(ids, key=lambda id: hashlib.sha256(f"{seed} {epoch} {id}".encode()).digest()))
