"""Who is preferred to whom in a record: by reward, or by what people said. Pure functions.

Equal rewards never prefer one response to the other, and where several share the best or the worst reward, the id (a
hash of the text) decides which of them speaks, never the place at which the source had it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, pstdev
from typing import Any

from neat_data.labels import best, best_first, labels_over, orders, pair
from neat_data.record import Record, Response

Row = dict[str, Any]
"""One row of a form, by column."""


class Skipped(Exception):
    """A record that gives no row; `reason` is a code that is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pair:
    """A response and one that it is preferred to."""

    chosen: Response
    rejected: Response

    @property
    def gap(self) -> float | None:
        """Reward of chosen minus reward of rejected; None where one has none."""
        if self.chosen.reward is None or self.rejected.reward is None:
            return None
        return self.chosen.reward - self.rejected.reward


Choose = Callable[[Record, float | None], list[Pair]]


def best_worst(record: Record, min_gap: float | None = None) -> list[Pair]:
    """The pair of the best and the worst reward.

    Args:
        record: with any number of responses.
        min_gap: the pair's gap must exceed it; None: 0.

    Raises:
        Skipped: there is no such pair.
    """
    responses = scored(record)
    return _wide_enough([Pair(best(responses), min(responses, key=_worst_first))], min_gap or 0.0)


def mu_2sigma(record: Record, min_gap: float | None = None) -> list[Pair]:
    """The best reward, and the response nearest to the mean less two standard deviations (Xiao et al. 2025, arXiv
    2502.16825: the very worst of many samples teaches less).

    Raises:
        Skipped: there is no such pair.
    """
    responses = scored(record)
    top, rewards = best(responses), [response.reward for response in responses if response.reward is not None]
    aim = fmean(rewards) - 2 * pstdev(rewards)
    lower = [response for response in responses if response.reward != top.reward] or [top]
    nearest = min(lower, key=lambda response: (abs(best_first(response)[0] + aim), response.response_id))
    return _wide_enough([Pair(top, nearest)], min_gap or 0.0)


def random(record: Record, min_gap: float | None = None) -> list[Pair]:
    """One of the pairs of `every`, by a hash of the query's id: the control of what picks one by its rewards.

    Raises:
        Skipped: there is none.
    """
    pairs = every(record, min_gap)
    drawn = hashlib.sha256(f"random pair {record.query_id}".encode()).digest()
    return [pairs[int.from_bytes(drawn[:6], "big") % len(pairs)]]


def every(record: Record, min_gap: float | None = None) -> list[Pair]:
    """Every pair of responses whose rewards differ by more than `min_gap` (None: 0), the higher one chosen.

    Raises:
        Skipped: there is none.
    """
    ordered = sorted(scored(record), key=best_first)
    return _wide_enough([Pair(*two) for two in combinations(ordered, 2)], min_gap or 0.0)


def labelled(record: Record, min_gap: float | None = None) -> list[Pair]:
    """The pairs that people stated, one label after the other; an order of m responses states m(m-1)/2.

    Args:
        record: its rewards need not agree with people.
        min_gap: the reward must agree by more than this; None: rewards do not matter, and need not be there.

    Raises:
        Skipped: people stated no pair, or none that is wide enough.
    """
    pairs = [Pair(*two) for order in orders(record) for two in combinations(order, 2)]
    if not pairs:
        raise Skipped("no_label")
    return pairs if min_gap is None else _wide_enough(pairs, min_gap)


def first_labelled(record: Record, min_gap: float | None = None) -> list[Pair]:
    """The first and the last of the first order that people gave (`labels.pair`); `min_gap` as `labelled` takes it.

    Raises:
        Skipped: people compared nothing, or the pair is not wide enough.
    """
    compared = pair(record)
    if compared is None:
        raise Skipped("no_label")
    return [Pair(*compared)] if min_gap is None else _wide_enough([Pair(*compared)], min_gap)


ONE_PAIR: dict[str, Choose] = {
    "best-worst": best_worst,
    "mu-2sigma": mu_2sigma,
    "random": random,
    "labels": first_labelled,
    "reviews": first_labelled,
    "all": best_worst,
}
"""By the word of `--pairs`, the one pair of a record that speaks for it."""


def scored(record: Record, at_least: int = 2) -> list[Response]:
    """The responses with a reward.

    Raises:
        Skipped: fewer than `at_least` responses, or fewer with a reward.
    """
    if len(record.responses) < at_least:
        raise Skipped("one_response")
    rewarded = [response for response in record.responses if response.reward is not None]
    if len(rewarded) < at_least:
        raise Skipped("no_reward")
    return rewarded


def only(record: Record, polarities: frozenset[str]) -> Record:
    """`record` with the responses of these polarities (`positive`, `negative`, `none`), and the labels over them."""
    kept = tuple(response for response in record.responses if polarity(response) in polarities)
    if len(kept) == len(record.responses):
        return record
    ids = {response.response_id for response in kept}
    return replace(record, responses=kept, labels=labels_over(record.labels, ids))


def polarity(response: Response) -> str:
    """The polarity of the prompt that a response was sampled under, `none` where there was none."""
    return response.polarity or "none"


def _wide_enough(pairs: list[Pair], min_gap: float) -> list[Pair]:
    gaps = [pair.gap for pair in pairs]
    kept = [pair for pair, gap in zip(pairs, gaps, strict=True) if gap is not None and gap > min_gap]
    if kept:
        return kept
    known = [gap for gap in gaps if gap is not None]
    if not known:
        raise Skipped("no_reward")
    raise Skipped("gap_too_small" if any(known) else "tie")


def _worst_first(response: Response) -> tuple[float, str]:
    reward, identifier = best_first(response)
    return -reward, identifier
