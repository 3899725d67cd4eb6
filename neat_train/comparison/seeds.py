"""Figures over the seeds of an arm: means with intervals, and differences between two arms.

Chance is in the queries, and with several seeds in the seeds too: see `neat_train.significance`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neat_train import significance
from neat_train.comparison.data import Figure

Values = Sequence[np.ndarray]
"""One array (queries,) a seed, the same queries in the same order."""


def perplexity_values(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """As `significance.ratio_values`, for exp(sum(nll) / sum(tokens)), both (responses,)."""
    perplexity = np.exp(nll.sum() / tokens.sum())
    return perplexity * (1 + significance.ratio_values(nll, tokens) - np.log(perplexity))


def mean(values: Values) -> Figure:
    """The mean over seeds of the means over queries, with its interval where there are two queries."""
    found = significance.two_level(values) if len(values) > 1 else significance.mean_interval(values[0])
    if found is None:
        return Figure(float(np.mean([one.mean() for one in values])))
    return Figure(found.value, found.low, found.high)


def difference(better: Values, worse: Values) -> tuple[Figure, float] | None:
    """Of means, better minus worse, with the p of no difference; None where that cannot be told: below two queries."""
    if len(better) == len(worse) == 1:
        found = significance.paired_difference(better[0], worse[0])
    else:
        found = significance.two_level_difference(better, worse)
    return None if found is None else (Figure(found[0].value, found[0].low, found[0].high), found[1])


def detectable(better: Values, worse: Values, level: float) -> float | None:
    """The smallest difference that a test at this level would find; None as of `difference`."""
    if len(better) > 1 or len(worse) > 1:
        return significance.detectable_two_level(better, worse, level=level)
    if len(better[0]) < 2:
        return None
    return significance.detectable(float((better[0] - worse[0]).std(ddof=1)), len(better[0]), level=level)


def win_rate(scores: Values) -> Figure:
    """Of scores 1, 0.5 and 0 for a win, a tie and a loss."""
    if len(scores) > 1:
        return mean(scores)
    wins, losses = int((scores[0] == 1).sum()), int((scores[0] == 0).sum())
    found = significance.win_rate(wins, losses, len(scores[0]) - wins - losses)
    return Figure(found.value, found.low, found.high)
