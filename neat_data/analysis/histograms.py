"""What the pictures of `stats` draw: counts between edges, of one size whatever the dataset's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neat_data.analysis.columns import Pairs, Responses
from neat_data.analysis.measures import counts_between, quantiles
from neat_data.analysis.result import Figures

BINS = 40  # of rewards and of lengths


def figures(
    responses: Responses, names: dict[str, list[str | None]], pairs: Pairs, thresholds: Sequence[float]
) -> Figures:
    """The counts behind the pictures, of fixed size whatever the dataset's."""
    size = np.sort(np.abs(pairs.gap))
    gap_edges = np.linspace(-1, 1, 61) * _reach(size, thresholds)
    by_origin = [np.sort(responses.reward[responses.origin == code]) for code in range(len(names["origin"]))]
    reward_edges = np.linspace(*_range(np.sort(responses.reward)), BINS + 1)
    length_edges = np.geomspace(1, max(10.0, float(responses.chars.max(initial=0)) * 1.01), BINS + 1)
    cells, means = length_against_reward(responses, length_edges, reward_edges)
    return Figures(
        gap_edges=_floats(gap_edges),
        gap_counts=_ints(counts_between(np.sort(pairs.gap), gap_edges)),
        cumulative=tuple(quantiles(size, tuple(i / 200 for i in range(201)))) if len(size) else (),
        reward_edges=_floats(reward_edges),
        reward_counts={
            name or "": _ints(counts_between(part, reward_edges))
            for name, part in zip(names["origin"], by_origin, strict=True)
            if len(part)
        },
        length_edges=_floats(length_edges),
        density=tuple(_ints(row) for row in cells),
        length_mean=means,
    )


def length_against_reward(
    responses: Responses, length_edges: np.ndarray, reward_edges: np.ndarray
) -> tuple[np.ndarray, tuple[float | None, ...]]:
    """Counts (length bin, reward bin) and the mean reward of every length bin, None where it is empty."""
    column = _bin(np.log(np.maximum(responses.chars, 1).astype(np.float32)), np.log(length_edges))
    cells = np.bincount(column * BINS + _bin(responses.reward, reward_edges), minlength=BINS * BINS)
    cells = cells.reshape(BINS, BINS)
    sums = np.bincount(column, weights=responses.reward, minlength=BINS)
    means = tuple(float(s / n) if n else None for s, n in zip(sums, cells.sum(axis=1), strict=True))
    return cells, means


def _reach(size: np.ndarray, thresholds: Sequence[float]) -> float:
    """How far the gap's histogram goes to either side: nearly all gaps, and a threshold that is not far beyond."""
    if not len(size) or size[-1] == 0:
        return 1.0
    most = quantiles(size, (0.995,))[0] or float(size[-1])
    near = [threshold * 1.1 for threshold in thresholds if threshold <= 2.5 * most]
    return max([most * 1.05, *near])


def _range(ordered: np.ndarray) -> tuple[float, float]:
    if not len(ordered):
        return 0.0, 1.0
    low, high = quantiles(ordered, (0.001, 0.999))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The number of each value's bin, for equally spaced edges."""
    scale = values.dtype.type(BINS / (edges[-1] - edges[0]))
    return np.clip((values - values.dtype.type(edges[0])) * scale, 0, BINS - 1).astype(np.int64)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _ints(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
