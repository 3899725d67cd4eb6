"""Intervals of means by resampling."""

from __future__ import annotations

import numpy as np

RESAMPLES = 5_000


def bootstrap(values: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile interval of the mean (Efron 1979) over resampled values; None below two of them.

    The resamples are the same every time.

    >>> bootstrap(np.array([2.0, 2.0, 2.0]))
    (2.0, 2.0)
    """
    if len(values) < 2:
        return None
    draws = np.random.default_rng(0)
    means = [values[draws.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
