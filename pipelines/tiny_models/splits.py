"""Cuts the source rows into sets that share no query, and lists the sets by query id.

The sizes are counted in source rows, half of each kind. A query goes to one set with all of its rows, so the sets are
filled in a fixed pseudo-random order: queries of several rows first, then single ones, which fill each set exactly.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path

from neat_data.errors import InputError
from pipelines.tiny_models.rows import KINDS, Pair


def cut(pairs: Iterable[Pair], sizes: Mapping[str, int], seed: int) -> dict[str, list[Pair]]:
    """Sets by name; each holds `sizes[name]` rows, half of each kind, and all rows of each of its queries.

    Raises:
        InputError: the rows do not add up to the sizes, or repeated queries do not fit.
    """
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.query_id].append(pair)
    room = {name: dict.fromkeys(KINDS, size // 2) for name, size in sizes.items()}
    sets: dict[str, list[Pair]] = {name: [] for name in sizes}
    for query in sorted(groups, key=lambda query: (-len(groups[query]), _shuffled(query, seed))):
        rows = groups[query]
        name = _choose(room, Counter(pair.kind for pair in rows), _shuffled(query, seed))
        for pair in rows:
            room[name][pair.kind] -= 1
        sets[name].extend(rows)
    return sets


def _choose(room: Mapping[str, Mapping[str, int]], need: Counter[str], position: float) -> str:
    """The set on which `position`, in [0, 1), falls when the sets that have room share that interval by their room."""
    free = {
        name: min(left[kind] for kind in need)
        for name, left in room.items()
        if all(left[kind] >= count for kind, count in need.items())
    }
    if not free:
        raise InputError(f"the rows do not fit the sets: {need.total()} rows of one query found no room")
    falls_on = position * sum(free.values())
    return next(name for name, bound in zip(free, accumulate(free.values()), strict=True) if falls_on < bound)


def _shuffled(query: str, seed: int) -> float:
    """A number in [0, 1) that depends on the seed and the query alone."""
    digest = hashlib.sha256(f"{seed}\0{query}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def write_ids(path: Path, ids: Iterable[str]) -> None:
    """The ids, sorted, one a line, in a gzip file whose bytes do not tell the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{i}\n" for i in sorted(set(ids))).encode(), mtime=0))


def read_ids(path: Path) -> list[str]:
    """The inverse of `write_ids`."""
    return gzip.decompress(path.read_bytes()).decode().split()
