"""What a reward model is worth on labels that it did not learn from: pure functions of scores and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neat_data.analysis.measures import share, sigmoid, spearman

GAPS = (0.0, 0.5, 1.0, 2.0)  # where bins of the distance of two scores begin
BINS = 10  # of confidence, from a half to certainty


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs that people put in order, as a model scores them.

    Attributes:
        gap: score of the better less that of the worse  # (pairs,)
        record: numbers of the pairs' records, ascending  # (pairs,)
    """

    gap: np.ndarray
    record: np.ndarray

    @classmethod
    def of(cls, scored: Sequence[tuple[Sequence[float], Sequence[Sequence[int]]]]) -> Pairs:
        """All pairs of the labels of some records.

        Args:
            scored: for each record its scores, and the orders of their numbers.
        """
        apart = [
            (scores[better] - scores[worse], number)
            for number, (scores, orders) in enumerate(scored)
            for order in orders
            for better, worse in _pairs(order)
        ]
        gaps, records = zip(*apart, strict=True) if apart else ((), ())
        return cls(np.array(gaps, dtype=np.float64), np.array(records, dtype=np.int64))


def _pairs(order: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((better, worse) for place, better in enumerate(order) for worse in order[place + 1 :])


def accuracy(pairs: Pairs) -> dict[str, float]:
    """The share of pairs whose better response has the higher score (a tie has not), with its 95 % interval."""
    right = share(pairs.gap > 0, pairs.record)
    if right.share is None or right.low is None or right.high is None:
        return {}
    return {
        "accuracy": right.share,
        "accuracy_low": right.low,
        "accuracy_high": right.high,
        "pairs": float(right.total),
    }


def accuracy_by_gap(pairs: Pairs) -> dict[str, float]:
    """The same by how far the scores lie apart, named by where each bin of `GAPS` begins; empty bins are left out.

    >>> accuracy_by_gap(Pairs(np.array([0.2, -0.1, 3.0]), np.array([0, 1, 2])))
    {'accuracy_from_gap/0': 0.5, 'accuracy_from_gap/2': 1.0}
    """
    bins = np.digitize(np.abs(pairs.gap), GAPS) - 1
    shares = ((start, pairs.gap[bins == number] > 0) for number, start in enumerate(GAPS))
    return {f"accuracy_from_gap/{start:g}": float(right.mean()) for start, right in shares if len(right)}


def calibration(pairs: Pairs) -> dict[str, float]:
    """How far sigmoid(distance) is the share of pairs that people see so, in `BINS` bins of equal width.

    `ece` is the expected calibration error (Guo et al. 2017, Eq. 3, arXiv 1706.04599); `reliability/C` the share of
    the bin whose mean confidence is C, `reliability_pairs/C` its pairs. Of a tie half is right.
    """
    if not len(pairs.gap):
        return {}
    confidence = sigmoid(np.abs(pairs.gap))
    right = np.where(pairs.gap == 0, 0.5, pairs.gap > 0)
    bins = np.minimum((2 * BINS * (confidence - 0.5)).astype(np.int64), BINS - 1)
    figures: dict[str, float] = {}
    error = 0.0
    for number in np.unique(bins):
        inside = bins == number
        mean, hit = float(confidence[inside].mean()), float(right[inside].mean())
        error += float(inside.mean()) * abs(hit - mean)
        name = f"{0.5 + (number + 0.5) / (2 * BINS):.3f}"
        figures |= {f"reliability/{name}": hit, f"confidence/{name}": mean, f"reliability_pairs/{name}": inside.sum()}
    return {"ece": error, **{name: float(value) for name, value in figures.items()}}


def length_correlation(scored: Sequence[tuple[Sequence[float], Sequence[int]]]) -> dict[str, float]:
    """Spearman's correlation of score and tokens over responses, each less its record's mean.

    Args:
        scored: for each record the scores and the lengths of its responses.
    """
    several = [(np.asarray(scores), np.asarray(lengths)) for scores, lengths in scored if len(scores) > 1]
    if not several:
        return {}
    score, length = (np.concatenate([part - part.mean() for part in parts]) for parts in zip(*several, strict=True))
    correlation = spearman(score, length)
    return {} if correlation is None else {"length_correlation": correlation}


def verdict_accuracy(accepted: Sequence[float], rejected: Sequence[float]) -> dict[str, float]:
    """The share of single verdicts that the score's sign agrees with."""
    right = [score > 0 for score in accepted] + [score < 0 for score in rejected]
    return {"verdict_accuracy": float(np.mean(right)), "verdicts": float(len(right))} if right else {}
