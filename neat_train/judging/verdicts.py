"""What a judge said of pairs of answers, each asked in both orders, and what follows from all of it: pure functions.

A pair is won or lost where both orders say so, and a tie otherwise. One whose answers cannot all be read, or that the
judge did not take, is counted and left out of every rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from neat_train.judging.clients.client import CUT
from neat_train.judging.length_control import length_controlled
from neat_train.judging.prompt import Preference
from neat_train.judging.result import Calibration, Lengths, PairFigures, PositionBias, TokenCounts, VerdictCounts
from neat_train.statistics import Interval, sign_test, win_rate

Verdict = Literal["win", "lose", "tie", "unreadable", "failed"]
_POINTS = {"win": 1.0, "tie": 0.5, "lose": 0.0}
_FOR_FIRST: dict[Preference | None, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
_SWAPPED: dict[Preference | None, Preference | None] = {"first": "second", "second": "first"}


@dataclass(frozen=True, slots=True)
class Said:
    """What the judge answered in one order.

    Attributes:
        preference: as it was read, None where it cannot be read.
        answer: as it came, None where the judge did not take the question, for the reason `refused`.
        prompt_tokens, completion_tokens: None where the judge does not count.
        unfinished: why the answer lacks its end, as `Reply.unfinished`; such a one is not read.
    """

    preference: Preference | None
    answer: str | None
    refused: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    unfinished: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A pair and what was said of it.

    Attributes:
        a, b: response ids; `a_length` and `b_length` are characters.
        forward: a stood first; `backward`: b did. Both None where the texts are the same: nobody was asked.
    """

    query_id: str
    a: str
    b: str
    a_length: int
    b_length: int
    forward: Said | None
    backward: Said | None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from any other pair."""
        return self.query_id, self.a, self.b

    @property
    def verdict(self) -> Verdict:
        """For a."""
        if self.forward is None or self.backward is None:
            return "tie"
        if self.forward.answer is None or self.backward.answer is None:
            return "failed"
        return outcome(self.forward.preference, self.backward.preference)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, a line of verdicts.jsonl."""
        return {"verdict": self.verdict, **asdict(self)}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> JudgedPair:
        """The inverse of `to_dict`."""
        orders = {name: row[name] and Said(**row[name]) for name in ("forward", "backward")}
        return cls(**{name: row[name] for name in row if name != "verdict"} | orders)


def outcome(forward: Preference | None, backward: Preference | None) -> Verdict:
    """The verdict for who stood first in `forward` and second in `backward`.

    >>> outcome("first", "second"), outcome("first", "first"), outcome("second", "first"), outcome("first", None)
    ('win', 'tie', 'lose', 'unreadable')
    """
    if forward is None or backward is None:
        return "unreadable"
    if forward == _SWAPPED.get(backward, backward):
        return "win" if forward == "first" else "lose" if forward == "second" else "tie"
    return "tie"


def counts(judged: Sequence[JudgedPair]) -> VerdictCounts:
    """How many pairs came out in each way."""
    return VerdictCounts(**Counter[str](pair.verdict for pair in judged))


def figures(judged: Sequence[JudgedPair]) -> PairFigures:
    """What follows from the verdicts; None where no pair, or too few of them, can say."""
    verdicts = counts(judged)
    decided = [pair for pair in judged if pair.verdict in _POINTS]
    points = np.array([_POINTS[pair.verdict] for pair in decided])
    longer = np.array([pair.a_length - pair.b_length for pair in decided], dtype=np.float64)
    return PairFigures(
        verdicts=verdicts,
        cut=_cut(judged),
        win_rate=_rate(verdicts.win, verdicts.lose, verdicts.tie),
        sign_test=sign_test(verdicts.win, verdicts.lose),
        length_controlled=length_controlled(points, longer),
        length=_lengths(decided),
    )


def _cut(judged: Sequence[JudgedPair]) -> int:
    unreadable = [pair for pair in judged if pair.verdict == "unreadable"]
    return sum(any(said and said.unfinished == CUT for said in (pair.forward, pair.backward)) for pair in unreadable)


def _lengths(decided: Sequence[JudgedPair]) -> Lengths:
    won = [pair.a_length - pair.b_length for pair in decided if pair.verdict == "win"]
    won += [pair.b_length - pair.a_length for pair in decided if pair.verdict == "lose"]
    means = {side: float(np.mean([getattr(p, f"{side}_length") for p in decided])) for side in ("a", "b") if decided}
    return Lengths(**means, longer_wins=_rate(sum(more > 0 for more in won), sum(more < 0 for more in won), 0))


def position_bias(judged: Sequence[JudgedPair]) -> PositionBias:
    """How much the order counts for this judge, over the pairs that were asked and read in both orders.

    The interval of `first_preferred` is that of a win rate of the first place, in which a pair of one such verdict and
    one tie is half a win and half a tie, so rather too wide.
    """
    said = [
        (pair.forward.preference, pair.backward.preference)
        for pair in judged
        if pair.forward is not None and pair.backward is not None and pair.verdict in _POINTS
    ]
    leaning = [_FOR_FIRST[forward] + _FOR_FIRST[backward] - 1 for forward, backward in said]  # from -1 to 1
    first, second = sum(lean for lean in leaning if lean > 0), -sum(lean for lean in leaning if lean < 0)
    same = sum(forward == _SWAPPED.get(backward, backward) for forward, backward in said)
    return PositionBias(
        first_preferred=_rate(first, second, len(said) - first - second),
        consistent=_rate(same, len(said) - same, 0),
        both_first=said.count(("first", "first")),
        both_second=said.count(("second", "second")),
        pairs=len(said),
    )


def agreement(judged: Sequence[JudgedPair]) -> Calibration:
    """How a judge does on a = what people chose, b = what they rejected."""
    verdicts = counts(judged)
    return Calibration(
        agreement=_rate(verdicts.win, verdicts.lose, verdicts.tie),
        decided=_rate(verdicts.win, verdicts.lose, 0),
        verdicts=verdicts,
        cut=_cut(judged),
        position_bias=position_bias(judged),
    )


def tokens(judged: Sequence[JudgedPair]) -> TokenCounts:
    """What the judge read and wrote, and the answers that came without a count."""
    said = [order for pair in judged for order in (pair.forward, pair.backward) if order and order.answer is not None]
    return TokenCounts(
        prompt=sum(order.prompt_tokens or 0 for order in said),
        completion=sum(order.completion_tokens or 0 for order in said),
        unreported=sum(order.prompt_tokens is None for order in said),
    )


def _rate(wins: float, losses: float, ties: float) -> Interval | None:
    return win_rate(wins, losses, ties) if wins + losses + ties else None
