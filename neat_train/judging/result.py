"""What a judge's verdicts come to: the content of judge.json, typed. `verdicts` computes it, `folder` keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neat_data.notebook import figure, html_of_facts
from neat_data.plain import WHERE_KNOWN, Plain
from neat_train.evaluation.result import EvaluatedPolicy
from neat_train.statistics import Interval


@dataclass(frozen=True, slots=True)
class PeoplesTexts(Plain):
    """A side that is texts of people: `chosen` or `rejected`, as it was given, and for people."""

    spec: str
    label: str


@dataclass(frozen=True, slots=True)
class VerdictCounts(Plain):
    """How many pairs came out in each way, for a."""

    win: int = 0
    lose: int = 0
    tie: int = 0
    unreadable: int = 0
    failed: int = 0

    @property
    def decided(self) -> int:
        """Pairs that count in a rate."""
        return self.win + self.lose + self.tie

    @property
    def unread(self) -> int:
        """Pairs that do not."""
        return self.unreadable + self.failed


@dataclass(frozen=True, slots=True)
class Lengths(Plain):
    """Mean characters of either side, and how often the longer answer won where one won and one was longer."""

    a: float | None = field(default=None, metadata=WHERE_KNOWN)
    b: float | None = field(default=None, metadata=WHERE_KNOWN)
    longer_wins: Interval | None = None


@dataclass(frozen=True, slots=True)
class PositionBias(Plain):
    """How much the order counts for a judge, over the `pairs` that were read in both orders.

    Attributes:
        first_preferred: share of verdicts for what stood first, a tie being half of one: 0.5 without bias.
        consistent: share of pairs that both orders agree on.
        both_first, both_second: pairs in which the place decided.
    """

    first_preferred: Interval | None
    consistent: Interval | None
    both_first: int
    both_second: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Calibration(Plain):
    """How a judge does on a = what people chose, b = what they rejected.

    Attributes:
        agreement: a tie counts as half, so that it is 0.5 by chance; `decided` leaves ties out.
        cut: pairs that are unreadable as an answer was cut at max_tokens.
    """

    agreement: Interval | None
    decided: Interval | None
    verdicts: VerdictCounts
    cut: int
    position_bias: PositionBias


@dataclass(frozen=True, slots=True)
class TokenCounts(Plain):
    """What the judge read and wrote, and the answers that came without a count."""

    prompt: int
    completion: int
    unreported: int


@dataclass(frozen=True, slots=True)
class BySide(Plain):
    """A count of either side."""

    a: int
    b: int


@dataclass(frozen=True, slots=True)
class JudgedQueries(Plain):
    """What was asked: `count` queries, `comparable` those that both sides can answer, `left_out` rows of the source."""

    name: str
    sha256: str
    count: int
    comparable: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PairFigures(Plain):
    """What follows from the verdicts on pairs of a and b.

    Attributes:
        cut: pairs that are unreadable as an answer was cut at max_tokens.
        win_rate: a tie is half a win; None where no pair was decided.
        sign_test: its two-sided p.
        length_controlled: win rate at equal length; None where too few pairs can say.
    """

    verdicts: VerdictCounts
    cut: int
    win_rate: Interval | None
    sign_test: float
    length_controlled: Interval | None
    length: Lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeResult(Plain):
    """Every figure of a comparison by a judge.

    Attributes:
        format: of the file.
        a, b: the sides.
        judge: what was asked, with its arguments.
        settings: all else that can change a figure.
        n: pairs compared.
        left_out: queries that a side did not answer.
        unfinished: answers that max_new_tokens ended.
        verdicts, cut, win_rate, sign_test, length_controlled, length: as `PairFigures`.
        calibration: None where no pair was judged by people.
    """

    format: int
    a: EvaluatedPolicy | PeoplesTexts
    b: EvaluatedPolicy | PeoplesTexts
    judge: Mapping[str, Any]
    queries: JudgedQueries
    settings: Mapping[str, Any]
    n: int
    left_out: BySide
    unfinished: BySide
    verdicts: VerdictCounts
    cut: int
    win_rate: Interval | None
    sign_test: float
    length_controlled: Interval | None
    length: Lengths
    position_bias: PositionBias
    calibration: Calibration | None
    tokens: TokenCounts

    @property
    def failed(self) -> bool:
        """Whether a pair is left that the judge did not take."""
        return bool(self.verdicts.failed or (self.calibration and self.calibration.verdicts.failed))

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdicts, the rates, and how the judge does where people judged."""
        facts = {
            "win, lose, tie": f"{self.verdicts.win:,}, {self.verdicts.lose:,}, {self.verdicts.tie:,}",
            "unread": f"{self.verdicts.unread:,}",
            "win rate": _shown(self.win_rate),
            "win rate at equal length": _shown(self.length_controlled),
            "agreement with people": _shown(self.calibration.agreement if self.calibration else None),
        }
        return html_of_facts(f"{self.a.label} against {self.b.label} on {self.n:,} queries", facts)


def _shown(interval: Interval | None) -> str:
    return figure(None) if interval is None else figure(interval.value, interval.low, interval.high)
