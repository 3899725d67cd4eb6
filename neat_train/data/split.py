"""Which queries are held out of training: a hash of the id decides, whatever the dataset and the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection


def held_out_split(ids: Collection[str], share: float) -> tuple[list[str], list[str]]:
    """Ids to train on and ids to hold out, each in the order given.

    Whether an id is held out depends on nothing but itself: a hash of it, as a fraction, is below `share`. So the same
    queries are held out of every dataset that has them, whatever the seed. Of two ids or more, one at least is held out
    (the lowest hash, where none is below) and one at least is left; of a single one, or with share 0, none is held out.

    >>> held_out_split(["a", "b", "c", "d"], 0.5)
    (['c', 'd'], ['a', 'b'])
    """
    order = sorted(ids, key=hash_fraction)
    below = sum(hash_fraction(id) < share for id in order)
    count = min(max(1, below), len(order) - 1) if share else 0
    held = frozenset(order[:count])
    return [id for id in ids if id not in held], [id for id in ids if id in held]


def hash_fraction(id: str) -> float:
    """A hash of the id, in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"held out {id}".encode()).digest()[:6], "big") / 2**48
