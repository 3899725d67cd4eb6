"""What there is to judge: records with the responses that were chosen, in an order of each rater's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from neat_data.errors import InputError
from neat_data.expressions import explained, select
from neat_data.record import Record
from neat_data.store.dataset import PreferenceDataset

POLARITIES = ("positive", "negative", "none", "all")


@dataclass(frozen=True)
class Tasks:
    """The records to judge.

    Attributes:
        responses: of each query, the ids of the responses to judge.
    """

    dataset: PreferenceDataset
    responses: dict[str, tuple[str, ...]]
    known: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "known", frozenset(identifier for ids in self.responses.values() for identifier in ids)
        )

    @classmethod
    def choose(
        cls,
        dataset: PreferenceDataset,
        *,
        where: str | None = None,
        polarities: Sequence[str] = ("negative",),
        sample: int | None = None,
    ) -> Tasks:
        """The records that `where` is true for, with their responses of these polarities.

        Args:
            polarities: of `POLARITIES`; `none` is a response that was sampled under no such prompt.
            sample: how many records at most, the same ones for every rater.

        Raises:
            InputError: an unknown polarity, a bad expression, or nothing to judge.
        """
        if unknown := sorted(set(polarities) - set(POLARITIES)):
            raise InputError(f"is none of {', '.join(POLARITIES)}", field="polarity", value=repr(unknown[0]))
        of = pl.element().struct.field("polarity").fill_null("none")
        wanted = pl.lit(True) if "all" in polarities else of.is_in(list(polarities))
        ids = pl.col("responses").list.eval(pl.element().struct.field("response_id").filter(wanted))
        with explained(where):
            frame = select(dataset.scan_records(dropped=True), where).select("query_id", ids=ids).collect()
        responses = {query: tuple(ids) for query, ids in frame.iter_rows() if ids}
        if not responses:
            which = f"of polarity {', '.join(polarities)}" + ("" if where is None else f" where {where}")
            raise InputError(
                f"{dataset.path}: nothing to judge: no response {which}.\n"
                "--polarity all takes every response; `neat-data expand` adds some."
            )
        return cls(dataset, {query: responses[query] for query in shuffled(responses, "sample")[:sample]})

    def order(self, rater: str) -> list[str]:
        """The queries in the order in which this rater meets them."""
        return shuffled(self.responses, rater)

    def record(self, query: str, rater: str) -> tuple[Record, list[str]]:
        """A record with all of its responses, and the ids of those to judge in this rater's order."""
        frame = self.dataset.scan_records(dropped=True).filter(pl.col("query_id") == query).collect()
        return Record.from_dict(frame.row(0, named=True)), shuffled(self.responses[query], rater)


def shuffled(ids: Sequence[str] | dict[str, tuple[str, ...]], key: str) -> list[str]:
    """The same order for the same key, whatever order they came in."""
    return sorted(ids, key=lambda identifier: hashlib.sha256(f"{key}\0{identifier}".encode()).digest())
