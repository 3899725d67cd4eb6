"""What one reader sees of a dataset, shard by shard: which rounds, without which responses, in which ranking."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from neat_data.record import SCHEMA, Record, canonical_json, from_table
from neat_data.store.join import Answers, records_of, with_scores
from neat_data.store.location import cache_folder
from neat_data.store.ranking import RankBy, Rankings, kept
from neat_data.store.scores import OWN
from neat_data.store.shard import write_shard

if TYPE_CHECKING:
    import polars as pl

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class View:
    """What one reader sees.

    Attributes:
        rounds: whose responses; None: all.
        left_out: ids of the responses that people dropped.
        by: the ranking; None: by the dataset's own rewards.
    """

    rankings: Rankings
    rounds: Collection[int] | None
    left_out: frozenset[str]
    by: RankBy | None

    @property
    def plain(self) -> bool:
        """Whether the base shards are what the reader sees."""
        later = any(at.round and at.shards for at in self.rankings.manifest.rounds)
        return not later and not self.left_out and self.by is None and self.rounds is None

    @cached_property
    def content(self) -> str:
        """sha256 over everything that decides what the reader sees."""
        manifest = self.rankings.manifest
        shards = [entry.sha256 for at in manifest.rounds for entry in at.shards]
        told: list[Any] = [shards, sorted(self.left_out)]
        if self.by is not None:
            names = [name for name in self.by.names if name != OWN]
            scored = {name: [s.entry.sha256 for s in self.rankings.scores[name].shards] for name in names}
            told += [self.by.how, list(self.by.names), scored]
        return hashlib.sha256(canonical_json(told).encode()).hexdigest()

    def table(self, number: int, scores: bool = False) -> pa.Table:
        """The records of a base shard, with the column `scores` where it is wanted."""
        base, found = self.rankings.answers(number)
        every = {name: self._rewards(name, number, found) for name in self.rankings.models} if scores else None
        if self.plain:
            base = base.replace_schema_metadata(None)
            return base if every is None else with_scores(base, every)
        keep = kept(found, self.left_out)
        if self.rounds is not None:
            keep &= np.isin(found.column("round").to_numpy(), list(self.rounds))
        reward = None if self.by is None else self.rankings.ranking(self.by, number, found)
        return records_of(base, found, keep, reward=reward, scores=every)

    def records(self, number: int) -> Iterator[Record]:
        """The records of a base shard, best response first."""
        for batch in self.table(number).to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from from_table(pa.Table.from_batches([batch]))

    def shape(self, scores: bool) -> pa.Table:
        """No record, with the columns of `table`."""
        empty = SCHEMA.empty_table()
        nothing = np.empty(0, np.float32)
        return with_scores(empty, dict.fromkeys(self.rankings.models, nothing)) if scores else empty

    def frame(self, number: int, scores: bool) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame(self.table(number, scores))

    def scores_frame(self, number: int) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame(self.table(number, True).select(["scores"]))

    def cached(self, number: int) -> Path:
        """The records of a base shard as a file in the user's cache folder."""
        path = cache_folder() / "compacted" / self.content / f"{number:05d}.arrow"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_shard(path, self.table(number), {})
        return path

    def _rewards(self, name: str, number: int, found: Answers) -> np.ndarray:
        return self.rankings.rewards(name, number, found, partial=True)
