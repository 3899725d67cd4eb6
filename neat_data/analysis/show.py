"""Pick records to look at: one query, the widest gaps, a random draw, or simply the first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from neat_data.errors import InputError
from neat_data.record import Record

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset


def choose(
    dataset: PreferenceDataset,
    *,
    query_id: str | None = None,
    widest_gap: int | None = None,
    random: int | None = None,
    seed: int = 0,
    limit: int = 5,
    rank_by: str | None = None,
) -> list[Record]:
    """The records asked for, the widest gap first where gaps were asked for, else in source order.

    `rank_by` is as `PreferenceDataset.records` takes it.

    Raises:
        InputError: more than one way of choosing was named, or no record has this id.
    """
    if sum(way is not None for way in (query_id, widest_gap, random)) > 1:
        raise InputError("records are chosen in one way", advice="choose one of {query_id}, {widest_gap} and {random}")
    records = dataset.records(rank_by=rank_by)
    if query_id is not None:
        matches = [record for record in records if record.query_id.startswith(query_id)]
        if not matches:
            raise InputError(f"no query_id begins with {query_id!r}")
        return matches
    if widest_gap is not None:
        return _by_id(records, _widest(dataset, widest_gap, rank_by))
    if random is not None:
        drawn = set(np.random.default_rng(seed).permutation(len(dataset))[:random].tolist())
        return [record for index, record in enumerate(records) if index in drawn]
    return list(islice(records, limit))


def _widest(dataset: PreferenceDataset, count: int, rank_by: str | None) -> list[str]:
    """Ids of the records whose best and worst reward are furthest apart."""
    spread = pl.col("reward").max() - pl.col("reward").min()
    gaps = dataset.scan(rank_by=rank_by).group_by("query_id").agg(spread.alias("gap")).top_k(count, by="gap")
    return gaps.sort(["gap", "query_id"], descending=[True, False]).collect()["query_id"].to_list()


def _by_id(records: Iterable[Record], ids: list[str]) -> list[Record]:
    wanted = set(ids)
    by_id = {record.query_id: record for record in records if record.query_id in wanted}
    return [by_id[identifier] for identifier in ids]
