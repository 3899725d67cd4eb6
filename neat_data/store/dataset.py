"""The reading side of a dataset: records, lazy frames, and `datasets.Dataset`.

Shards are mapped, never loaded whole, and rounds are joined shard by shard: shard n of any round holds queries of base
shard n only. Reading needs no lock; of a folder that is still being written, what its manifest
knows is seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import SCHEMA, Label, Record, Response, canonical_json, from_table, to_table
from neat_data.store import manifest as manifests
from neat_data.store.location import Location, cache_folder, locate
from neat_data.store.manifest import Manifest
from neat_data.store.shard import read_shard, write_shard

if TYPE_CHECKING:
    import datasets
    import polars as pl

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class PreferenceDataset:
    """A dataset of ranked responses.

    Attributes:
        path: the folder or URL, as it was given.
        manifest: what `dataset.json` says: `settings`, `versions`, `rounds` with their summaries and shards.
    """

    path: str
    manifest: Manifest
    _location: Location

    @classmethod
    def open(cls, path: str | Path) -> PreferenceDataset:
        """Open a dataset folder, or an fsspec URL of one.

        Raises:
            InputError: it is no dataset of ours, or its manifest is damaged.
        """
        location = locate(path)
        content = location.read(manifests.FILE)
        if content is None:
            raise InputError(_not_a_dataset(path, location))
        return cls(str(path), Manifest.from_bytes(content, f"{path}/{manifests.FILE}"), location)

    def __len__(self) -> int:
        """Records, those included of which people dropped every response."""
        return sum(entry.rows for entry in self.manifest.round(0).shards)

    @property
    def complete(self) -> bool:
        """Whether every round was finished; of one that was not, the shards committed so far are read."""
        return bool(self.manifest.rounds) and all(r.complete for r in self.manifest.rounds)

    def records(self, rounds: Collection[int] | None = None, *, dropped: bool = False) -> Iterator[Record]:
        """Records in source order, responses best first; records without a response are passed over.

        Args:
            rounds: whose responses to take; None: all.
            dropped: whether to take responses that people dropped when reviewing.
        """
        left_out = frozenset() if dropped else self.dropped
        for number in self.manifest.round(0).numbers():
            yield from self._shard_records(number, rounds, left_out)

    def shard_records(self, number: int, rounds: Collection[int] | None = None) -> Iterator[Record]:
        """The records of one base shard, responses that people dropped included; `rounds` as in `records`."""
        return self._shard_records(number, rounds, frozenset())

    def scan_records(self, *, dropped: bool = False) -> pl.LazyFrame:
        """One row a record, in the shape of the Arrow schema; nothing is read before the frame is collected."""
        import polars as pl

        numbers = self.manifest.round(0).numbers()
        empty = pl.DataFrame(SCHEMA.empty_table())
        if not numbers:
            return empty.lazy()
        left_out = frozenset() if dropped else self.dropped
        if self._plain(left_out):
            return pl.scan_ipc([self._location.shard(entry) for entry in numbers.values()], glob=False)
        shards = (partial(self._shard_frame, number, left_out) for number in numbers)
        return pl.concat([pl.defer(shard, schema=empty.schema) for shard in shards])

    def scan(self, *, dropped: bool = False) -> pl.LazyFrame:
        """One row a response of any round: `query_id`, `rank` (0 is the best of its query) and a response's fields."""
        import polars as pl

        ranks = pl.int_ranges(pl.col("responses").list.len(), dtype=pl.UInt32)
        responses = self.scan_records(dropped=dropped).select("query_id", ranks.alias("rank"), "responses")
        return responses.filter(pl.col("responses").list.len() > 0).explode("rank", "responses").unnest("responses")

    def to_hf(self) -> datasets.Dataset:
        """A `datasets.Dataset` over the mapped shards.

        A dataset of several rounds, or with responses that people dropped, is first written as plain shards into the
        user's cache folder, once for each content.
        """
        import datasets

        numbers = self.manifest.round(0).numbers()
        if self._plain(self.dropped):
            paths = [self._location.shard(entry) for entry in numbers.values()]
        else:
            paths = [self._compacted(number) for number in numbers]
        tables = [read_shard(path).replace_schema_metadata(None) for path in paths]
        table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        # Without a fingerprint of our own, datasets would read and hash every row.
        return datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=self._content[:16])

    @cached_property
    def dropped(self) -> frozenset[str]:
        """Ids of the responses that a reviewer dropped and did not take back: each reviewer's latest verdict counts.

        Raises:
            InputError: a line of `reviews/` cannot be read.
        """
        found: set[str] = set()
        for name, content in self._reviews:
            latest: dict[str, str] = {}
            for number, line in enumerate(content.splitlines(), 1):
                try:
                    event = json.loads(line)
                    latest[event["response_id"]] = event["verdict"]
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(f"{self.path}/{name}, line {number}: no review event ({error}).") from error
            found |= {response for response, verdict in latest.items() if verdict == "drop"}
        return frozenset(found)

    @cached_property
    def _reviews(self) -> list[tuple[str, bytes]]:
        names = (name for name in self._location.names("reviews") if name.endswith(".jsonl"))
        return [(name, self._location.read(name) or b"") for name in names]

    @cached_property
    def _content(self) -> str:
        """sha256 over everything that decides what a reader sees."""
        shards = [entry.sha256 for at in self.manifest.rounds for entry in at.shards]
        return hashlib.sha256(canonical_json([shards, sorted(self.dropped)]).encode()).hexdigest()

    def _plain(self, left_out: frozenset[str]) -> bool:
        """Whether a reader sees the base shards as they are."""
        return len(self.manifest.rounds) <= 1 and not left_out

    def _shard_records(self, number: int, rounds: Collection[int] | None, left_out: frozenset[str]) -> Iterator[Record]:
        """One base shard's records, joined with what later rounds added."""
        added = self._added(number)
        base = read_shard(self._location.shard(self.manifest.round(0).numbers()[number]))
        for batch in base.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for record in from_table(pa.Table.from_batches([batch])):
                responses = (*record.responses, *added.get(record.query_id, ()))
                kept = tuple(
                    response
                    for response in responses
                    if response.response_id not in left_out and (rounds is None or response.round in rounds)
                )
                if kept:
                    yield _with_responses(record, kept)

    def _added(self, number: int) -> dict[str, list[Response]]:
        """What later rounds added to the queries of a base shard."""
        added: dict[str, list[Response]] = {}
        for at in self.manifest.rounds:
            entry = at.numbers().get(number)
            if at.round > 0 and entry is not None:
                for record in from_table(read_shard(self._location.shard(entry))):
                    added.setdefault(record.query_id, []).extend(record.responses)
        return added

    def _shard_frame(self, number: int, left_out: frozenset[str]) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame(to_table(self._shard_records(number, None, left_out)))

    def _compacted(self, number: int) -> Path:
        path = cache_folder() / "compacted" / self._content / f"{number:05d}.arrow"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_shard(path, to_table(self._shard_records(number, None, self.dropped)), {})
        return path


def _with_responses(record: Record, responses: tuple[Response, ...]) -> Record:
    """`record` with these responses, ranked; labels forget the others, and go when nothing is left to say."""
    ids = {response.response_id for response in responses}
    labels = tuple(label for old in record.labels if (label := _label_over(old, ids)) is not None)
    return replace(record, responses=responses, labels=labels).ranked()


def _label_over(label: Label, ids: set[str]) -> Label | None:
    order = tuple(identifier for identifier in label.order if identifier in ids)
    if len(order) == len(label.order):
        return label
    return replace(label, order=order) if len(order) >= 2 else None


def _not_a_dataset(path: str | Path, location: Location) -> str:
    if location.names("round-0000"):
        return (
            f"{path}: {manifests.FILE} is missing. `neat-data verify {path} --rebuild` makes it anew from the shards."
        )
    return f"{path}: no dataset folder (it has no {manifests.FILE}). `neat-data score` makes one."
