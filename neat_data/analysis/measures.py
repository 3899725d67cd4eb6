"""The arithmetic behind `stats`: shares with intervals, quantiles, ranks. Pure functions of numpy arrays.

Nothing here warns or divides by zero: a figure that is not defined for its input is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
_LARGE = 1_000  # responses of a record whose pairs are not held at once
LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with a 95 % interval.

    Attributes:
        count, total: pairs for which it holds, and all pairs.
        share, low, high: as fractions; None where there are no pairs.
        clusters: different queries among the pairs.
        effective: independent pairs that would tell as much (`effective_size`).
    """

    count: int
    total: int
    share: float | None
    low: float | None
    high: float | None
    clusters: int
    effective: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean, standard deviation and quantiles (linear interpolation) of a sample; None where it is empty."""

    count: int
    mean: float | None
    std: float | None
    minimum: float | None
    q01: float | None
    q05: float | None
    q25: float | None
    median: float | None
    q75: float | None
    q95: float | None
    q99: float | None
    maximum: float | None


def wilson(share: float, size: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share seen in `size` (effective) trials (Wilson 1927, JASA 22, p. 209).

    >>> [round(end, 3) for end in wilson(0.5, 10)]
    [0.237, 0.763]
    """
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return max(0.0, centre - half), min(1.0, centre + half)


def effective_size(hits: np.ndarray, clusters: np.ndarray) -> tuple[float, int]:
    """Pairs of one query resemble each other: how many independent pairs are these worth, and in how many clusters?

    The variance of the share p = sum x_c / sum m_c over clusters c with m_c pairs and x_c hits is, as a ratio estimate
    (Cochran 1977, Sampling Techniques, eq. 6.13), C / (C - 1) * sum (x_c - p m_c)^2 / n^2. Divided by the variance
    p (1 - p) / (n - 1) of independent pairs it gives Kish's design effect, and n / design effect is the effective size
    (Kish 1965, Survey Sampling, section 8.2), never more than n. It equals n where every cluster has one pair. Where p
    is 0 or 1 the data do not show the effect, and the number of clusters, its worst case, is taken.

    Args:
        hits: bool, one a pair.
        clusters: int, one a pair; equal values stand side by side.
    """
    n = len(hits)
    if n == 0:
        return 0.0, 0
    changes = clusters[1:] != clusters[:-1]
    count = 1 + int(np.count_nonzero(changes))
    if count == n:
        return float(n), count
    begins = np.concatenate([[0], np.flatnonzero(changes) + 1])
    x = np.add.reduceat(hits.astype(np.float64), begins)
    m = np.diff(np.append(begins, n))
    p = x.sum() / n
    if count == 1 or p in (0.0, 1.0):
        return float(count), count
    variance = count / (count - 1) * ((x - p * m) ** 2).sum() / n**2
    effect = max(1.0, variance / (p * (1 - p) / (n - 1)))
    return n / effect, count


def share(hits: np.ndarray, clusters: np.ndarray) -> Share:
    """The share of true `hits` with a 95 % Wilson interval, widened where pairs share a cluster.

    >>> share(np.array([True, False]), np.array([1, 2])).share
    0.5
    """
    total = len(hits)
    if total == 0:
        return Share(0, 0, None, None, None, 0, 0.0)
    count = int(np.count_nonzero(hits))
    effective, different = effective_size(hits, clusters)
    low, high = wilson(count / total, effective)
    return Share(count, total, count / total, low, high, different, effective)


def quantiles(ordered: np.ndarray, levels: tuple[float, ...]) -> list[float]:
    """Quantiles of a non-empty ascending sample, linear between neighbours (numpy's default).

    >>> quantiles(np.array([0.0, 10.0]), (0.0, 0.25, 1.0))
    [0.0, 2.5, 10.0]
    """
    index = np.asarray(levels) * (len(ordered) - 1)
    below = np.floor(index).astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    low, high = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    return [float(value) for value in low + (high - low) * (index - below)]


def summary(ordered: np.ndarray) -> Summary:
    """Mean, standard deviation (of the population) and quantiles of finite values in ascending order."""
    if len(ordered) == 0:
        return Summary(0, *[None] * 11)
    mean, std = float(ordered.mean(dtype=np.float64)), float(ordered.std(dtype=np.float64))
    return Summary(len(ordered), mean, std, *quantiles(ordered, LEVELS))


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with a 95 % interval; None where there is no value, or too few for an interval."""

    count: int
    mean: float | None
    low: float | None
    high: float | None


def mean(values: np.ndarray) -> Mean:
    """The mean of independent values, with the interval of a normal distribution: 1.96 standard errors to either side.

    >>> mean(np.array([1.0, 3.0])).mean
    2.0
    """
    if len(values) == 0:
        return Mean(0, None, None, None)
    centre = float(values.mean(dtype=np.float64))
    if len(values) == 1:
        return Mean(1, centre, None, None)
    error = Z95 * float(values.std(ddof=1, dtype=np.float64)) / math.sqrt(len(values))
    return Mean(len(values), centre, centre - error, centre + error)


def tau_b(first: np.ndarray, second: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of two rewards inside every record (Kendall 1945, Biometrika 33, p. 239): what
    `scipy.stats.kendalltau` gives, for all records at once.

    Args:
        first, second: rewards, one a response, record after record; NaN is left out of its record.
        sizes: responses of each record.

    Returns:
        One a record; NaN where either reward does not tell any two responses apart.

    >>> tau_b(np.array([1.0, 2.0, 5.0, 4.0]), np.array([0.0, 9.0, 1.0, 3.0]), np.array([2, 2])).tolist()
    [1.0, -1.0]
    """
    taus = np.full(len(sizes), np.nan)
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    for size in np.unique(sizes[sizes > 1]):
        rows = np.flatnonzero(sizes == size)
        index = starts[rows, None] + np.arange(size)
        if size > _LARGE:
            taus[rows] = [_tau_b_of_many(first[of], second[of]) for of in index]
            continue
        i, j = np.triu_indices(size, 1)
        x, y = (np.sign(values[index[:, i]] - values[index[:, j]]) for values in (first, second))
        both = ~np.isnan(x) & ~np.isnan(y)
        x, y = np.where(both, x, 0), np.where(both, y, 0)
        scale = np.sqrt(np.count_nonzero(x, axis=1) * np.count_nonzero(y, axis=1))
        taus[rows] = np.divide((x * y).sum(axis=1), scale, out=np.full(len(rows), np.nan), where=scale > 0)
    return taus


def _tau_b_of_many(first: np.ndarray, second: np.ndarray) -> float:
    """`tau_b` of one record, whose pairs are gone through response by response: they would not fit into memory."""
    there = ~(np.isnan(first) | np.isnan(second))
    first, second = first[there], second[there]
    agree = np.int64(0)
    untied = np.zeros(2, np.int64)
    for position in range(len(first) - 1):
        x, y = np.sign(first[position] - first[position + 1 :]), np.sign(second[position] - second[position + 1 :])
        agree += int((x * y).sum())
        untied += np.count_nonzero(x), np.count_nonzero(y)
    scale = math.sqrt(float(untied[0]) * float(untied[1]))
    return float(agree / scale) if scale else math.nan


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank.

    >>> average_ranks(np.array([3, 1, 3])).tolist()
    [2.5, 1.0, 2.5]
    """
    if len(values) and values.dtype.kind in "iu" and 0 <= values.min() <= values.max() <= len(values):
        counts = np.bincount(values)  # counting is several times faster than sorting
        return (np.cumsum(counts) - (counts - 1) / 2)[values]
    order = np.argsort(values)
    ordered = values[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(values) else order
    ends = np.append(begins[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((begins + 1 + ends) / 2, ends - begins)
    return ranks


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation: Pearson's of the average ranks; None where either is constant."""
    if len(first) < 2:
        return None
    x, y = average_ranks(first), average_ranks(second)
    x -= x.mean()
    y -= y.mean()
    scale = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    return float(x @ y) / scale if scale else None


def auc(better: np.ndarray, worse: np.ndarray) -> float | None:
    """The chance that one of `better` exceeds one of `worse`, ties counting half (Mann and Whitney 1947).

    >>> auc(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    0.625
    """
    if not len(better) or not len(worse):
        return None
    ranks = average_ranks(np.concatenate([better, worse]))[: len(better)]
    wins = float(ranks.sum()) - len(better) * (len(better) + 1) / 2
    return wins / (len(better) * len(worse))


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow: beyond -700 it is as good as 0."""
    return 1 / (1 + np.exp(np.minimum(-values, 700.0)))


def counts_between(ordered: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many of the ascending values lie in each bin [edge, next edge); the outermost bins hold what lies beyond.

    >>> counts_between(np.array([-9.0, 0.0, 0.5, 9.0]), np.array([-1.0, 0.0, 1.0])).tolist()
    [1, 3]
    """
    inner = np.searchsorted(ordered, edges[1:-1].astype(ordered.dtype), side="left")
    return np.diff(np.concatenate([[0], inner, [len(ordered)]]))
