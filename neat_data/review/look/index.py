"""Every record of a dataset as one row of narrow columns in memory: what lists filter and sort by.

Built in one pass when the pages are first asked for; no text is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from neat_data.analysis.columns import numbers
from neat_data.expressions import inner, worked_out
from neat_data.store.dataset import PreferenceDataset

POLARITIES = ("none", "positive", "negative")
QUARTILES = 4
_AGAINST = "against "


@dataclass(frozen=True)
class Cells:
    """Responses by the polarity of their prompt and by quarter of all rewards.

    Attributes:
        edges: the three rewards that cut all of them into quarters; empty where there are none.
        counts: responses with a reward, int64 (`POLARITIES`, `QUARTILES`).
        of_record: the cells that each record has responses in, one bit each (polarity · 4 + quarter), uint16.
    """

    edges: tuple[float, ...]
    counts: np.ndarray
    of_record: np.ndarray

    def holding(self, polarity: str, quarter: int) -> np.ndarray:
        """Whether each record has a response in this cell; quarter 0 is the lowest."""
        return (self.of_record >> np.uint16(POLARITIES.index(polarity) * QUARTILES + quarter)) & 1 == 1


@dataclass(frozen=True)
class Index:
    """The records as columns.

    Attributes:
        frame: one row a record, in source order: `query_id`, what `--where` knows beside the record's own columns
            (`expressions.worked_out`), `spread`, `length`, `disagreement` and one `against(model)` a further model.
        places: of each record, the row of its query, counted over all base shards.
        starts: where each base shard begins in that count, and where the last one ends.
        numbers: of the base shards.
        models: further reward models, as `--rank-by` names them.
    """

    frame: pl.DataFrame
    cells: Cells
    places: np.ndarray
    starts: np.ndarray
    numbers: tuple[int, ...]
    models: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frame)

    def row_of(self, query: str) -> int | None:
        """The row of a query; None where no record has it."""
        rows = (self.frame["query_id"] == query).arg_true()
        return int(rows[0]) if len(rows) else None

    def shard_of(self, row: int) -> tuple[int, int]:
        """The number of the base shard in which a record's query stands, and its row there."""
        shard = int(np.searchsorted(self.starts, self.places[row], side="right")) - 1
        return self.numbers[shard], int(self.places[row] - self.starts[shard])

    def shards(self) -> Iterator[tuple[int, range]]:
        """The number of each base shard, and the rows of its records."""
        ends = np.searchsorted(self.places, self.starts).tolist()
        yield from zip(self.numbers, map(range, ends, ends[1:]), strict=True)


def against(model: str) -> str:
    """The column that says how far a further model contradicts the dataset's own reward."""
    return f"{_AGAINST}{model}"


def build(dataset: PreferenceDataset) -> Index:
    """Read a dataset once.

    Raises:
        InputError: a shard is missing or damaged, or a line of `reviews/` cannot be read.
    """
    models = dataset.models[1:]
    read = _narrow(dataset.scan_records(scores=bool(models)), models).collect(engine="streaming")
    sizes = read["n_responses"].to_numpy().astype(np.int64)
    rewards = [numbers(read[name]) for name in ("rewards", *map(against, models))]
    derived = _between(rewards, sizes, models)
    shards = dataset.manifest.round(0).numbers()
    return Index(
        frame=read.drop("rewards", "polarities", *map(against, models)).with_columns(**derived),
        cells=cells(rewards[0], _codes(read["polarities"]), sizes),
        places=_places(dataset, read["query_id"]),
        starts=np.cumsum([0, *(entry.rows for entry in shards.values())]),
        numbers=tuple(shards),
        models=models,
    )


def cells(rewards: np.ndarray, polarities: np.ndarray, sizes: np.ndarray) -> Cells:
    """Count responses by polarity and by quarter of all rewards.

    Args:
        rewards: float32, one a response, record after record; NaN where there is none.
        polarities: places in `POLARITIES`.
        sizes: responses of each record.
    """
    owner, scored = np.repeat(np.arange(len(sizes)), sizes), ~np.isnan(rewards)
    owner, rewards, polarities = owner[scored], rewards[scored], polarities[scored]
    of_record = np.zeros(len(sizes), dtype=np.uint16)
    if not len(rewards):
        return Cells((), np.zeros((len(POLARITIES), QUARTILES), dtype=np.int64), of_record)
    edges = np.quantile(rewards, [0.25, 0.5, 0.75]).astype(np.float32)
    cell = polarities * QUARTILES + np.searchsorted(edges, rewards, side="right")
    np.bitwise_or.at(of_record, owner, np.left_shift(1, cell).astype(np.uint16))
    counts = np.bincount(cell, minlength=len(POLARITIES) * QUARTILES).reshape(-1, QUARTILES)
    return Cells(tuple(map(float, edges)), counts, of_record)


def disagreement(rewards: Sequence[np.ndarray], sizes: np.ndarray) -> np.ndarray:
    """How far apart the models put one response of each record, where they are furthest apart.

    Args:
        rewards: of each model, standardised, one a response; NaN where it gave none.
        sizes: responses of each record.

    Returns:
        standard deviations, float32, one a record; NaN where no response has two rewards.
    """
    distance = np.fmax.reduce(rewards) - np.fmin.reduce(rewards)
    distance[np.sum(~np.isnan(rewards), axis=0) < 2] = np.nan
    widest = np.full(len(sizes), np.nan, dtype=np.float32)
    np.fmax.at(widest, np.repeat(np.arange(len(sizes)), sizes), distance.astype(np.float32))
    return widest


def contradiction(own: np.ndarray, other: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How much more the own reward prefers its best response to its worst than another model does.

    Args:
        own, other: standardised rewards, one a response, the best by `own` first; NaN where there is none.
        sizes: responses of each record.

    Returns:
        standard deviations, float32, one a record; NaN where fewer than two responses have both rewards.
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    both = ~np.isnan(own) & ~np.isnan(other)
    counts = np.bincount(owner[both], minlength=len(sizes))
    ends, several = np.cumsum(counts), counts > 1
    difference = (own - other)[both]
    distance = np.full(len(sizes), np.nan, dtype=np.float32)
    distance[several] = difference[(ends - counts)[several]] - difference[ends[several] - 1]
    return distance


def standardised(rewards: np.ndarray) -> np.ndarray:
    """Rewards less their mean, over their standard deviation; NaN stays."""
    known = rewards[~np.isnan(rewards)].astype(np.float64)
    deviation = known.std() if len(known) else 0.0
    return ((rewards - (known.mean() if len(known) else 0.0)) / (deviation or 1.0)).astype(np.float64)


def _narrow(records: pl.LazyFrame, models: Sequence[str]) -> pl.LazyFrame:
    extra = worked_out()
    return records.select(
        "query_id",
        **extra,
        spread=extra["reward_best"] - extra["reward_worst"],
        length=pl.col("responses").list.eval(pl.element().struct.field("text").str.len_chars()).list.max(),
        rewards=inner("responses", "reward"),
        polarities=inner("responses", "polarity"),
        **{against(name): pl.col("scores").struct.field(name) for name in models},
    )


def _between(rewards: list[np.ndarray], sizes: np.ndarray, models: Sequence[str]) -> dict[str, pl.Series]:
    """What only several reward models tell."""
    if not models:
        return {}
    own, *others = scales = [standardised(values) for values in rewards]
    columns = {"disagreement": disagreement(scales, sizes)}
    for name, other in zip(models, others, strict=True):
        columns[against(name)] = contradiction(own, other, sizes)
    return {name: pl.Series(values).fill_nan(None) for name, values in columns.items()}


def _codes(polarities: pl.Series) -> np.ndarray:
    flat = polarities.explode(empty_as_null=False).fill_null("none")
    return flat.replace_strict(POLARITIES, range(len(POLARITIES)), default=0, return_dtype=pl.Int64).to_numpy()


def _places(dataset: PreferenceDataset, queries: pl.Series) -> np.ndarray:
    every = [dataset.stored(number)[0]["query_id"] for number in dataset.manifest.round(0).numbers()]
    if sum(map(len, every)) == len(queries):
        return np.arange(len(queries))
    stored = pl.concat([pl.Series(pl.from_arrow(part)) for part in every])
    # both stand in source order, and a record that readers leave out is one that keeps no response
    return stored.is_in(queries.implode()).arg_true().to_numpy().astype(np.int64)
