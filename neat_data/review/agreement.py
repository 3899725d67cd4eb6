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
from sklearn.metrics import cohen_kappa_score

Level = Literal["nominal", "ordinal"]
RESAMPLES = 500
_FEW = 2  # queries, below which there is nothing to draw from


@dataclass(frozen=True)
class Estimate:
    """A coefficient with its 95 % percentile interval; None where it is not defined, say because all said the same.

    Attributes:
        units: what both, or at least two, rated.
    """

    units: int
    value: float | None
    low: float | None
    high: float | None


def alpha(ratings: np.ndarray, clusters: np.ndarray, level: Level) -> Estimate:
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
    return _estimate(lambda weights: _alpha(np.repeat(counts, weights, axis=0), level), clusters)


def kappa(one: np.ndarray, other: np.ndarray, clusters: np.ndarray, level: Level) -> Estimate:
    """Cohen's kappa (1960), with quadratic weights (1968) where the codes are in an order; arguments as in `alpha`."""
    both = ~np.isnan(one) & ~np.isnan(other)
    first, second = one[both].astype(int), other[both].astype(int)
    return _estimate(lambda weights: _kappa(first, second, weights, level), clusters[both])


def _estimate(coefficient: Callable[[np.ndarray], float], clusters: np.ndarray) -> Estimate:
    """The coefficient with every unit once, and over queries that are drawn again.

    Args:
        coefficient: of int weights, how often each unit counts.
    """
    if not len(clusters):
        return Estimate(0, None, None, None)
    value = coefficient(np.ones(len(clusters), dtype=int))
    queries, of = np.unique(clusters, return_inverse=True)
    if np.isnan(value) or len(queries) < _FEW:
        return Estimate(len(clusters), _known(value), None, None)

    def drawn(index: np.ndarray) -> float:
        return coefficient(np.bincount(index, minlength=len(queries))[of])

    made = bootstrap(
        (np.arange(len(queries)),),
        drawn,
        vectorized=False,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    defined = made.bootstrap_distribution[~np.isnan(made.bootstrap_distribution)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
    return Estimate(len(clusters), float(value), _known(low), _known(high))


def _alpha(counts: np.ndarray, level: Level) -> float:
    used = counts.any(axis=0)
    if used.sum() < 2:  # alpha is 0 / 0
        return float("nan")
    domain = np.flatnonzero(used)
    return float(krippendorff.alpha(value_counts=counts[:, used], value_domain=domain, level_of_measurement=level))


def _kappa(one: np.ndarray, other: np.ndarray, weights: np.ndarray, level: Level) -> float:
    how = "quadratic" if level == "ordinal" else None
    labels = np.arange(max(one.max(), other.max()) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # undefined where both said one thing throughout: nan
        return float(cohen_kappa_score(one, other, labels=labels, weights=how, sample_weight=weights))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
