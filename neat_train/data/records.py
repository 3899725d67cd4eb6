"""The records of a dataset by their query's id, read when they are asked for: shards stay mapped, nothing is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from neat_data.errors import InputError
from neat_data.expressions import explained, inner, select
from neat_data.options.words import DropBy
from neat_data.record import Record, canonical_json, from_table
from neat_data.store.dataset import PreferenceDataset

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, slots=True)
class Records:
    """Random access to the records of a dataset.

    Attributes:
        dataset: where they lie.
        ids: query ids of those that take part, in the dataset's order.
        contrasts: those of them that have two different rewards.
        reviewed: whether what reviewers said stands in the place of the source's labels, dropped responses among the
            others.
    """

    dataset: PreferenceDataset
    ids: tuple[str, ...]
    contrasts: frozenset[str]
    _rows: Mapping[str, int]
    _table: datasets.table.Table
    reviewed: bool = False

    @classmethod
    def open(
        cls,
        path: str,
        *,
        rank_by: str | None = None,
        drop_by: DropBy = "any",
        where: str | None = None,
        limit: int | None = None,
        reviewed: bool = False,
        rounds: int | None = None,
    ) -> Records:
        """The first `limit` records that `where` is true for, of those with a response.

        Args:
            drop_by: which responses that reviewers dropped are left out, as `neat_data.open` takes it.
            reviewed: take the records that reviewers said something of, with that as their labels.
            rounds: how many of its rounds to see; None: all. A run that grows the dataset itself goes on with those
                that were there when it began.

        Raises:
            InputError: no finished dataset, a bad expression, or no such record.
        """
        whole = PreferenceDataset.open(path, drop_by)
        dataset = replace(whole, manifest=replace(whole.manifest, rounds=whole.manifest.rounds[:rounds]))
        if not dataset.complete:
            raise InputError(f"{path}: is not finished. Run the command that was making it again, then train.")
        if reviewed and not dataset.reviews:
            raise InputError(f"{path}: nobody has reviewed it", field="labels", value="reviews")
        frame = select(dataset.scan_records(rank_by=rank_by, dropped=reviewed), where)
        rewards = inner("responses", "reward")
        with explained(where):
            answered = frame.filter(pl.col("responses").list.len() > 0)
            usable = answered.select("query_id", differ=rewards.list.max() > rewards.list.min()).collect()
        if reviewed:
            spoken = pl.Series([record.query_id for record in dataset.reviewed()], dtype=pl.String)
            usable = usable.filter(pl.col("query_id").is_in(spoken.implode()))
        selected = usable[:limit]
        if selected.is_empty():
            why = "it has no records" if where is None else f"where {where!r} is true for no record"
            raise InputError(f"{path}: nothing to train on: {why}.")
        mapped = dataset.to_hf(rank_by=rank_by, dropped=reviewed)
        ids = tuple(selected["query_id"])
        wanted = frozenset(ids)
        rows = {query: row for row, query in enumerate(mapped.data["query_id"].to_pylist()) if query in wanted}
        return cls(dataset, ids, frozenset(selected.filter("differ")["query_id"]), rows, mapped.data, reviewed)

    def only(self, ids: Collection[str]) -> Records:
        """Those of them with these ids, in the dataset's order."""
        wanted = frozenset(ids)
        kept = tuple(query for query in self.ids if query in wanted)
        return replace(self, ids=kept, contrasts=self.contrasts & wanted)

    def without(self, ids: Collection[str]) -> Records:
        """Those of them with other ids, in the dataset's order."""
        return self.only(frozenset(self.ids).difference(ids))

    @property
    def negative(self) -> bool:
        """Whether the dataset has a response that was sampled under a negative prompt."""
        frame = self.dataset.scan().select((pl.col("polarity") == "negative").any())
        return bool(frame.collect().item())

    def identity(self) -> dict[str, Any]:
        """What the dataset's rounds hold, by content, and what reviewers dropped of them."""
        taken = self.dataset.manifest.rounds
        shards = [[entry.name, entry.sha256] for round in taken for entry in round.shards]
        said: list[Any] = [shards, sorted(self.dataset.dropped)]
        if self.reviewed:
            said.append({rater: list(map(asdict, events)) for rater, events in self.dataset.reviews.items()})
        content = canonical_json(said)
        return {"rounds": len(taken), "sha256": hashlib.sha256(content.encode()).hexdigest()}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, query: str) -> Record:
        """KeyError where the dataset has no such record."""
        record = from_table(self._table.fast_slice(self._rows[query], 1))[0]
        return self.dataset.with_reviews(record) if self.reviewed else record
