"""From evaluations and samples to figures: proxy and gold reward against the distance from the start.

Two models' logits have different scales, so a reward is told in standard deviations of that model's rewards of the
start's answers, counted from their mean: 0 is the start, and the same step under both models is equally good news.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import neat_data
from neat_train.statistics import Interval, mean_interval, paired_difference
from pipelines.gold.best_of_n import expected, kl_of, sizes
from pipelines.tiny_models.agreement import Agreement

ROLES = ("proxy", "gold")


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of the start's rewards under each of the two models."""

    mean: Mapping[str, float]
    deviation: Mapping[str, float]

    @classmethod
    def of(cls, samples: pl.DataFrame) -> Scale:
        """Of the start's samples, a row each."""
        return cls(
            {role: float(samples[role].mean()) for role in ROLES},  # type: ignore[arg-type]
            {role: float(samples[role].std()) for role in ROLES},  # type: ignore[arg-type]
        )

    def standard(self, role: str, rewards: np.ndarray) -> np.ndarray:
        """In standard deviations from the start's mean."""
        return (rewards - self.mean[role]) / self.deviation[role]


def read_samples(test: Path, scores: str) -> tuple[pl.DataFrame, Agreement]:
    """The start's samples (query_id, proxy, gold), and how often the proxy agrees with gold on the test pairs."""
    opened = neat_data.open(str(test))
    both = {"proxy": opened.scan().collect(), "gold": opened.scan(rank_by=scores).collect()}
    rows = (
        both["proxy"]
        .rename({"reward": "proxy"})
        .join(
            both["gold"].select("query_id", "response_id", pl.col("reward").alias("gold")),
            on=["query_id", "response_id"],
        )
    )
    given = (
        rows.filter(pl.col("origin") == "source")
        .group_by("query_id")
        .agg(
            (pl.col("proxy").get(pl.col("gold").arg_max()) > pl.col("proxy").get(pl.col("gold").arg_min())).alias(
                "agreed"
            )
        )
    )
    return (
        rows.filter(pl.col("origin") == "sampled").select("query_id", *ROLES),
        Agreement(int(given["agreed"].sum()), len(given)),
    )


def best_of_n(samples: pl.DataFrame, scale: Scale) -> list[dict[str, Any]]:
    """A point for each n; queries of which samples were dropped (empty, repeated) count only where n are left.

    `from_start` is the change from one sample of the same queries, n = 1, with its interval and the p of no change.
    """
    groups = [group for _, group in samples.group_by("query_id", maintain_order=True)]
    most = max(len(group) for group in groups)
    return [{"n": n, "kl": kl_of(n), **_best_of(groups, scale, n)} for n in sizes(most)]


def _best_of(groups: Sequence[pl.DataFrame], scale: Scale, n: int) -> dict[str, Any]:
    enough = [group for group in groups if len(group) >= n]
    figures: dict[str, Any] = {"queries": len(enough)}
    changes: dict[str, Any] = {}
    for role in ROLES:
        worth = [(group["proxy"].to_numpy(), scale.standard(role, group[role].to_numpy())) for group in enough]
        chosen, single = (np.array([expected(*query, size) for query in worth]) for size in (n, 1))
        figures[role] = _told(mean_interval(chosen))
        changes[role] = _changed(chosen, single)
    return {**figures, "from_start": changes} if n > 1 else figures


def point(folder: Path, answers: pl.DataFrame, names: Mapping[str, str], scale: Scale) -> dict[str, Any]:
    """What one evaluation says of fresh answers at temperature 1.

    Args:
        answers: its sampled ones.
        names: the reward models' names there, by role.
    """
    sampled = json.loads((folder / "eval.json").read_bytes())["decodings"]["sampled"]
    return {
        "kl": sampled["kl"]["per_response"],
        "length": sampled["length"]["mean"],
        "finished": sampled["finished"],
        **{role: _told(mean_interval(_standard(answers, role, names, scale))) for role in ROLES},
    }


def change(before: pl.DataFrame, after: pl.DataFrame, names: Mapping[str, str], scale: Scale) -> dict[str, Any]:
    """How both rewards of the same queries changed, with the interval and the p of no change."""
    changes: dict[str, Any] = {}
    for role in ROLES:
        column = f"reward/{names[role]}"
        both = (
            before.select("query_id", pl.col(column).alias("before"))
            .join(after, on="query_id")
            .drop_nulls(["before", column])
        )
        changes[role] = _changed(*(scale.standard(role, both[name].to_numpy()) for name in (column, "before")))
    return changes


def _changed(after: np.ndarray, before: np.ndarray) -> dict[str, float] | None:
    """Of the same queries, in their order."""
    paired = paired_difference(after, before)
    return None if paired is None else {**paired[0].to_dict(), "p": paired[1]}


def _standard(answers: pl.DataFrame, role: str, names: Mapping[str, str], scale: Scale) -> np.ndarray:
    """Of the answers that have a reward: empty ones have none."""
    return scale.standard(role, answers[f"reward/{names[role]}"].drop_nulls().to_numpy())


def _told(interval: Interval | None) -> dict[str, float] | None:
    return interval.to_dict() if interval else None
