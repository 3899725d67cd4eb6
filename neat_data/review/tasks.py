"""What there is to judge: records with the responses, or pairs of them, that were chosen, in each rater's own order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import polars as pl
import pyarrow.compute as pc

from neat_data.errors import InputError
from neat_data.expressions import explained, inner, select
from neat_data.record import Record
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.reviews import pair_id

POLARITIES = ("positive", "negative", "none", "all")
Mode = Literal["verdicts", "pairs", "edits"]


@dataclass(frozen=True)
class Tasks:
    """The records to judge.

    Attributes:
        items: of each query, what is to be judged, by what `Event.subject` calls it: responses, or pairs of them.
        mode: `verdicts` on single responses, `pairs` of which one is worse, or `edits`, verdicts that may rewrite.
        overlap: the share of the records that every rater gets; of the others each goes to the first who judges it.
    """

    dataset: PreferenceDataset
    items: dict[str, tuple[str, ...]]
    mode: Mode = "verdicts"
    overlap: float = 1.0
    query_of: dict[str, str] = field(init=False, repr=False)
    _orders: dict[str, list[str]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InputError where the overlap is no share."""
        if not 0 <= self.overlap <= 1:
            raise InputError("a share from 0 to 1", field="overlap", value=self.overlap)
        object.__setattr__(self, "query_of", {item: query for query, ids in self.items.items() for item in ids})

    @classmethod
    def choose(
        cls,
        dataset: PreferenceDataset,
        *,
        where: str | None = None,
        polarities: Sequence[str] = ("negative",),
        sample: int | None = None,
        mode: Mode = "verdicts",
        overlap: float = 1.0,
        may_be_none: bool = False,
    ) -> Tasks:
        """The records that `where` is true for, with their responses of these polarities.

        Args:
            polarities: of `POLARITIES`; `none` is a response that was sampled under no such prompt.
            sample: how many records at most, the same ones for every rater.
            mode: in `pairs`, each of these responses is shown beside another one of its record.
            may_be_none: whether there may be nothing to judge.

        Raises:
            InputError: an unknown polarity, a bad expression or share, or nothing to judge where something must be.
        """
        if unknown := sorted(set(polarities) - set(POLARITIES)):
            raise InputError(f"is none of {', '.join(POLARITIES)}", field="polarity", value=repr(unknown[0]))
        of = pl.element().struct.field("polarity").fill_null("none")
        wanted = pl.lit(True) if "all" in polarities else of.is_in(list(polarities))
        ids = pl.col("responses").list.eval(pl.element().struct.field("response_id").filter(wanted))
        columns = {"ids": ids, "every": inner("responses", "response_id")}
        with explained(where):
            frame = select(dataset.scan_records(dropped=True), where).select("query_id", **columns).collect()
        make = _pairs if mode == "pairs" else lambda chosen, _: tuple(chosen)
        items_of = {query: items for query, chosen, every in frame.iter_rows() if (items := make(chosen, every))}
        if not items_of and not may_be_none:
            advice = "{polarity} all takes every response; `neat-data expand` adds some."
            raise InputError(_nothing(dataset.path, mode, polarities, where), advice=advice)
        return cls(dataset, {query: items_of[query] for query in shuffled(items_of, "sample")[:sample]}, mode, overlap)

    @cached_property
    def shared(self) -> frozenset[str]:
        """The queries that every rater gets."""
        return frozenset(shuffled(self.items, "overlap")[: math.ceil(self.overlap * len(self.items))])

    def order(self, rater: str) -> list[str]:
        """The queries in the order in which this rater meets them."""
        if rater not in self._orders:
            self._orders[rater] = shuffled(self.items, rater)
        return self._orders[rater]

    def record(self, query: str, rater: str) -> tuple[Record, list[str]]:
        """A record with all of its responses, and what is to be judged of it in this rater's order."""
        table = self.dataset.shard_table(self._shard_of[query], dropped=True)
        (stored,) = table.filter(pc.equal(table["query_id"], query)).to_pylist()
        return Record.from_dict(stored), shuffled(self.items[query], rater)

    @cached_property
    def _shard_of(self) -> dict[str, int]:
        """The base shard of each query that is judged, so that a page reads one shard alone."""
        stored = (
            (number, query)
            for number in self.dataset.manifest.round(0).numbers()
            for query in self.dataset.stored(number)[0]["query_id"].to_pylist()
        )
        return {query: number for number, query in stored if query in self.items}


def shuffled(ids: Iterable[str], key: str) -> list[str]:
    """The same order for the same key, whatever order they came in."""
    return sorted(ids, key=lambda one: hashlib.sha256(f"{key}\0{one}".encode()).digest())


def _pairs(chosen: Sequence[str], every: Sequence[str]) -> tuple[str, ...]:
    """Each chosen response with another of its record, a pair once; none where it stands alone."""
    partners = {one: [other for other in every if other != one] for one in chosen}
    return tuple(dict.fromkeys(pair_id(one, shuffled(others, one)[0]) for one, others in partners.items() if others))


def _nothing(path: str, mode: Mode, polarities: Sequence[str], where: str | None) -> str:
    which = f"of polarity {', '.join(polarities)}" + ("" if where is None else f" where {where}")
    beside = " beside another of its record" if mode == "pairs" else ""
    return f"{path}: nothing to judge: no response {which}{beside}."
