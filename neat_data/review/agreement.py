"""How far raters agree beyond chance: Krippendorff's alpha and Cohen's kappa, with bootstrap intervals. Pure functions.

What is rated about one query hangs together, so whole queries are drawn again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import krippendorff
import numpy as np
from scipy.stats import bootstrap

Level = Literal["nominal", "ordinal"]
RESAMPLES = 1000
_FEW = 2  # queries, below which there is nothing to draw from


@dataclass(frozen=True)
class Coefficient:
    """A coefficient with its 95 % percentile interval; None where it is not defined, say because all said the same.

    Attributes:
        units: what both, or at least two, rated.
    """

    units: int
    value: float | None
    low: float | None
    high: float | None


def alpha(ratings: np.ndarray, clusters: np.ndarray, level: Level) -> Coefficient:
    """Krippendorff's alpha (Content Analysis, 1980).

    Args:
        ratings: float (raters, units), codes from 0, NaN where a rater said nothing.
        clusters: int (units,), the query that a unit belongs to.
        level: whether the codes are in an order.
    """
    rated = (~np.isnan(ratings)).sum(axis=0) >= 2
    ratings, clusters = ratings[:, rated], clusters[rated]
    codes = int(np.nanmax(ratings, initial=0)) + 1
    counts = np.stack([(ratings == code).sum(axis=0) for code in range(codes)], axis=1)  # (units, codes)
    return _estimate(_alpha(counts, level), lambda weights: _alpha(np.repeat(counts, weights, axis=0), level), clusters)


def kappa(one: np.ndarray, other: np.ndarray, clusters: np.ndarray, level: Level) -> Coefficient:
    """Cohen's kappa (1960), with quadratic weights (1968) where the codes are in an order; arguments as in `alpha`."""
    both = ~np.isnan(one) & ~np.isnan(other)
    first, second, codes = one[both].astype(int), other[both].astype(int), int(np.nanmax([one, other], initial=0)) + 1

    def drawn(weights: np.ndarray) -> float:
        table = np.bincount(first * codes + second, weights, codes**2).reshape(codes, codes)
        return _kappa(table, level)

    return _estimate(drawn(np.ones(len(first))), drawn, clusters[both])


def _estimate(value: float, drawn: Callable[[np.ndarray], float], clusters: np.ndarray) -> Coefficient:
    """A coefficient's value, with the interval over queries that are drawn again.

    Args:
        drawn: the coefficient by how often each unit counts, int (units,).
    """
    queries, of = np.unique(clusters, return_inverse=True)
    if np.isnan(value) or len(queries) < _FEW:
        return Coefficient(len(clusters), None if np.isnan(value) else value, None, None)

    def of_queries(index: np.ndarray) -> float:
        return drawn(np.bincount(index, minlength=len(queries))[of])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw in which all said one thing has no coefficient, and does not count
        made = bootstrap(
            (np.arange(len(queries)),),
            of_queries,
            vectorized=False,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    defined = made.bootstrap_distribution[~np.isnan(made.bootstrap_distribution)]
    if not len(defined):
        return Coefficient(len(clusters), value, None, None)
    low, high = np.quantile(defined, (0.025, 0.975))
    return Coefficient(len(clusters), value, float(low), float(high))


def _alpha(counts: np.ndarray, level: Level) -> float:
    used = counts.any(axis=0)
    if used.sum() < 2:  # alpha is 0 / 0
        return float("nan")
    domain = np.flatnonzero(used)
    return float(krippendorff.alpha(value_counts=counts[:, used], value_domain=domain, level_of_measurement=level))


def _kappa(table: np.ndarray, level: Level) -> float:
    """1 - disagreement / that by chance, of counts (codes, codes); NaN where chance alone would not disagree."""
    codes = np.arange(len(table))
    apart = np.subtract.outer(codes, codes) ** 2
    apart = apart if level == "ordinal" else apart > 0
    expected = (apart * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()
    return float(1 - (apart * table).sum() * table.sum() / expected) if expected else float("nan")
