"""Do the prompts do what they say? Rewards of the responses sampled under each kind of prompt, compared query by query.

Behind `neat-data stats --by polarity`. A query's responses of one kind count by their mean, so that queries, not
responses, are what the intervals are over.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from neat_data.analysis.measures import Mean, mean
from neat_data.expressions import select

_KINDS: tuple[str | None, ...] = ("positive", "negative", None)


@dataclass(frozen=True, slots=True)
class Rewards:
    """The rewards of `responses` responses sampled under prompts of one polarity (None: under no such prompt)."""

    polarity: str | None
    responses: int
    reward: Mean


@dataclass(frozen=True, slots=True)
class Polarities:
    """What `compare` finds.

    Attributes:
        rewards: positive, negative and neither, those that occur.
        difference: positive minus negative, over the queries that have both.
    """

    rewards: tuple[Rewards, ...]
    difference: Mean


def compare(records: pl.LazyFrame, where: str | None = None) -> Polarities:
    """Rewards by polarity.

    Args:
        records: in the shape of the Arrow schema.
        where: a SQL expression over the record.
    """
    responses = select(records, where).select("query_id", "responses").explode("responses")
    answers = responses.filter(pl.col("responses").is_not_null()).unnest("responses")
    scored = answers.filter(pl.col("reward").is_not_null()).with_columns(pl.col("reward").cast(pl.Float64))
    of = [pl.col("reward").filter(pl.col("polarity").eq_missing(pl.lit(kind))) for kind in _KINDS]
    columns = [
        column
        for n, rewards in enumerate(of)
        for column in (rewards.mean().alias(f"m{n}"), rewards.len().alias(f"n{n}"))
    ]
    queries = scored.group_by("query_id", maintain_order=True).agg(columns).collect()
    groups = tuple(
        Rewards(kind, int(queries[f"n{n}"].sum()), mean(queries[f"m{n}"].drop_nulls().to_numpy()))
        for n, kind in enumerate(_KINDS)
    )
    difference = (queries["m0"] - queries["m1"]).drop_nulls().to_numpy()
    return Polarities(tuple(rewards for rewards in groups if rewards.responses), mean(difference))
