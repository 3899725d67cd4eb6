"""What chance could have done: intervals, tests, and what a sample can tell; pure functions of numpy arrays.

Every interval is at 95 %, every test two-sided, and every resampling the same at each call. What is resampled is what
another evaluation would draw anew: the queries, and with two levels also the seeds of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import optimize, stats

RESAMPLES = 5_000
_DRAWS = 500_000
LEVEL = 0.05
FEW = 30  # values: of ten, nine in ten percentile intervals hold the truth, of five eight in ten
PERMUTATIONS = 9_999
_QUANTILES = (LEVEL / 2, 1 - LEVEL / 2)
NORMAL = float(stats.norm.ppf(_QUANTILES[1]))  # 1.96
_BESIDE = 1e-6
_CHUNK = 500  # resamples at a time, which bounds the memory
_HIGHEST = 700.0  # nats a token: beyond it exp overflows


def perplexity_of(nats: float) -> float:
    """exp of the negative log-likelihood of a token; kept below what overflows.

    >>> perplexity_of(0.0), perplexity_of(1e9) < math.inf
    (1.0, True)
    """
    return math.exp(min(float(nats), _HIGHEST))


def bootstrap(values: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile interval of the mean (Efron 1979) over resampled values; None below two of them.

    The resamples are the same every time.

    >>> bootstrap(np.array([2.0, 2.0, 2.0]))
    (2.0, 2.0)
    """
    if len(values) < 2:
        return None
    draws, count = np.random.default_rng(0), len(values)
    size = max(1, min(RESAMPLES, _DRAWS // count))  # resamples at a time, which bounds the memory
    starts = range(0, RESAMPLES, size)
    means = [values[draws.integers(0, count, (min(size, RESAMPLES - start), count))].mean(axis=1) for start in starts]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """JSON-able."""
        return asdict(self)


def mean_interval(values: np.ndarray) -> Interval | None:
    """The mean of (queries,) with its interval over queries; None below two of them.

    From `FEW` queries on it is the percentile bootstrap's. Below, it is Student's t interval, which takes the values to
    be normal: of skewed ones it holds the truth a little too seldom, the bootstrap of so few of any far too seldom.

    >>> Interval(*(round(figure, 3) for figure in mean_interval(np.array([1.0, 2.0, 3.0])).to_dict().values()))
    Interval(value=2.0, low=-0.484, high=4.484)
    """
    values = np.asarray(values, dtype=np.float64)
    ends = bootstrap(values) if len(values) >= FEW else _students(values)
    return None if ends is None else Interval(float(values.mean()), *ends)


def _students(values: np.ndarray) -> tuple[float, float] | None:
    """Student (1908): the mean and its standard error, times the quantile of t."""
    n = len(values)
    if n < 2:
        return None
    reach = float(stats.t.ppf(_QUANTILES[1], n - 1) * values.std(ddof=1) / math.sqrt(n))
    return float(values.mean()) - reach, float(values.mean()) + reach


def ratio_values(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Values (queries,) whose mean is sum(above) / sum(below), and that vary as this ratio does.

    A ratio of sums is no mean over queries; its linearisation is (Särndal et al. 1992, section 5.6), so that its
    interval is that of any other figure.

    >>> ratio_values(np.array([2.0, 4.0]), np.array([1.0, 3.0])).tolist()
    [1.75, 1.25]
    """
    ratio = above.sum() / below.sum()
    return ratio + (above - ratio * below) / below.mean()


def paired_difference(a: np.ndarray, b: np.ndarray) -> tuple[Interval, float] | None:
    """The mean of a - b, both (queries,) and of the same queries in the same order, and the p of no difference.

    p comes from exchanging a and b within queries at random (Fisher's paired randomisation test; all exchanges where
    there are at most `PERMUTATIONS`), so it is never below 2 / (PERMUTATIONS + 1), nor below 2 / 2^n of n queries: of
    fewer than six it cannot reach 5 %, though an interval that takes the differences to be normal may leave 0 out. None
    below two queries.

    Raises:
        ValueError: not as many values of a as of b.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} values of one and {len(b)} of the other are not of the same queries")
    interval = mean_interval(a - b)
    return None if interval is None else (interval, _sign_flips(a - b))


def _sign_flips(differences: np.ndarray) -> float:
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=PERMUTATIONS,
        batch=_CHUNK,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def two_level(values: Sequence[np.ndarray]) -> Interval | None:
    """The mean over seeds of the means over queries, where `values[seed]` is (queries,).

    A resample takes seeds, then queries. Where all seeds have the same number of queries these are the same queries,
    and a resample takes the same ones of every seed. The bootstrap of few seeds is corrected for their number, but not
    as a t quantile would: where nearly all spread is between three seeds, nine in ten of these intervals hold the truth
    (benchmarks/interval_coverage.py). Below `FEW` queries they are too narrow besides. None below two queries.
    """
    means = _resampled_means(values, np.random.default_rng(0), np.random.default_rng(1))
    if means is None:
        return None
    return _interval(_mean_of_means(values), means)


def two_level_difference(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> tuple[Interval, float] | None:
    """Mean of means of a minus that of b, and the p of no difference; `a[seed]` and `b[seed]` are (queries,).

    The queries are the same everywhere and resampled jointly, the seeds of either arm independently. p is twice the
    smaller share of resampled differences on either side of 0 (Efron and Tibshirani 1993, 15.4), one added to each
    count, so it is never 0. None below two queries.

    Raises:
        ValueError: the seeds have different numbers of queries.
    """
    differences = _resampled_differences(a, b)
    if differences is None:
        return None
    beyond = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    p = min(1.0, 2 * (int(beyond) + 1) / (len(differences) + 1))
    return _interval(_mean_of_means(a) - _mean_of_means(b), differences), p


def _resampled_differences(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray | None:
    """(resamples,)."""
    if len({len(queries) for queries in [*a, *b]}) > 1:
        raise ValueError("the seeds of two arms have different numbers of queries, so these are not the same")
    # One stream of query resamples for both arms, another of seeds for each.
    of_a = _resampled_means(a, np.random.default_rng(0), np.random.default_rng(1))
    of_b = _resampled_means(b, np.random.default_rng(0), np.random.default_rng(2))
    return None if of_a is None or of_b is None else of_a - of_b


def _resampled_means(
    values: Sequence[np.ndarray], queries: np.random.Generator, seeds: np.random.Generator
) -> np.ndarray | None:
    """(resamples,): the mean of means of each."""
    if not values or min(map(len, values)) < 2:
        return None
    crossed = len({len(seed) for seed in values}) == 1
    resampled = _crossed if crossed else _nested
    sizes = [min(_CHUNK, RESAMPLES - start) for start in range(0, RESAMPLES, _CHUNK)]
    return np.concatenate([resampled(values, size, queries, seeds) for size in sizes])


def _crossed(
    values: Sequence[np.ndarray], size: int, queries: np.random.Generator, seeds: np.random.Generator
) -> np.ndarray:
    """How much a resample takes of a seed times how often it takes a query weighs the value of the two."""
    table = np.stack(values).astype(np.float64)
    taken = _weights(table.shape[1], size, queries)
    return ((_spread(_weights(len(table), size, seeds)) @ table) * taken).sum(axis=1)


def _nested(
    values: Sequence[np.ndarray], size: int, queries: np.random.Generator, seeds: np.random.Generator
) -> np.ndarray:
    """Each seed has queries of its own."""
    means = np.column_stack([_weights(len(seed), size, queries) @ seed for seed in values])
    return (_spread(_weights(len(values), size, seeds)) * means).sum(axis=1)


def _weights(count: int, size: int, draws: np.random.Generator) -> np.ndarray:
    """(size, count): the share of a resample that each of `count` things makes."""
    return draws.multinomial(count, np.full(count, 1 / count), size) / count


def _spread(weights: np.ndarray) -> np.ndarray:
    """Weights of k seeds, moved away from 1 / k so that the variance of the resampled mean is not (k - 1) / k of what
    it should be, a third short with three (the rescaling bootstrap of Rao and Wu 1988, with k drawn of k).
    """
    count = weights.shape[1]
    return 1 / count + (weights - 1 / count) * math.sqrt(count / max(count - 1, 1))


def _mean_of_means(values: Sequence[np.ndarray]) -> float:
    return float(np.mean([np.mean(queries, dtype=np.float64) for queries in values]))


def _interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.quantile(resampled, _QUANTILES)
    return Interval(value, float(low), float(high))


def win_rate(wins: float, losses: float, ties: float) -> Interval:
    """(wins + ties / 2) / n, with Tango's score interval (Statistics in Medicine 17, 1998, 891-908).

    The win rate is (1 + d) / 2 with d the difference of the shares of wins and losses, two shares of the same n; the
    interval holds every d that a score test at 5 % does not refuse, the share of losses being the likeliest for that d.
    It stays within 0 and 1 and has a width also where every verdict is the same. Counts need not be whole: half a win
    and half a tie are a pair in between.

    >>> Interval(*(round(figure, 3) for figure in win_rate(24, 2, 4).to_dict().values()))
    Interval(value=0.867, low=0.725, high=0.938)

    Raises:
        ValueError: no verdict at all, or a negative count.
    """
    n = wins + losses + ties
    if n < 1 or min(wins, losses, ties) < 0:
        raise ValueError(f"a win rate of {wins} wins, {losses} losses and {ties} ties is not defined")
    difference = (wins - losses) / n
    low = -_upper_difference(losses, wins, n)
    return Interval((1 + difference) / 2, (1 + low) / 2, (1 + _upper_difference(wins, losses, n)) / 2)


def _upper_difference(b: float, c: float, n: float) -> float:
    """The largest d = (b - c) / n, true difference of two shares, that the score test does not refuse."""
    if b == n:
        return 1.0

    def beyond(d: float) -> float:
        variance = n * (2 * _likeliest(b, c, n, d) + d * (1 - d))
        return (b - c - n * d) + NORMAL * math.sqrt(max(variance, 0.0))

    # At the difference found itself `beyond` is 0 too where every verdict is the same, so the search begins beside it:
    # nearer than the root, and than 1, however many verdicts there are.
    difference = (b - c) / n
    return float(optimize.brentq(beyond, difference + (1 - difference) * min(_BESIDE, 1 / n), 1.0))


def _likeliest(b: float, c: float, n: float, d: float) -> float:
    """The share of c that is likeliest where that of b is greater by d (Tango 1998, equation 10)."""
    linear = (2 * n - b + c) * d - b - c
    return (math.sqrt(max(linear**2 + 8 * n * c * d * (1 - d), 0.0)) - linear) / (4 * n)


def sign_test(wins: int, losses: int) -> float:
    """The exact p of as many wins as losses; ties are left out.

    >>> round(sign_test(18, 9), 3)
    0.122
    """
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """The p of several hypotheses, adjusted so that at 5 % one in twenty families refuses a true one (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted


def detectable(deviation: float, n: int, power: float = 0.8, level: float = LEVEL) -> float:
    """The smallest true mean of n paired differences that a two-sided test at this level finds with this power.

    Args:
        deviation: the standard deviation of the differences.
        level: of one of m hypotheses that `holm` corrects, `LEVEL / m`: its first step, which the smallest p must pass.
            So it is the smallest difference that is found whatever the other hypotheses come to.

    >>> round(detectable(1.0, 300), 3)
    0.162
    """
    return _standard_errors(power, level) * deviation / math.sqrt(n)


def detectable_two_level(
    a: Sequence[np.ndarray], b: Sequence[np.ndarray], power: float = 0.8, level: float = LEVEL
) -> float | None:
    """The same for two arms of several seeds: at 5 % and a power of 0.8 it is 2.8 standard errors of the bootstrap.

    None and ValueError as of `two_level_difference`.
    """
    differences = _resampled_differences(a, b)
    return None if differences is None else _standard_errors(power, level) * float(differences.std(ddof=1))


def _standard_errors(power: float, level: float) -> float:
    """That a true difference must be away from 0 (Cohen 1988: the normal approximation)."""
    return float(stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power))
