"""What a comparison holds: plain data, no file and no text for people.

An *arm* is what is compared: one run, or several that differ in nothing but the seed and what follows from it, say the
run of the same seed that each goes on from. A *figure* is a mean over the seeds of an arm, with an interval where it is
known query by query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from neat_data.notebook import figure, html_of_facts
from neat_data.plain import Plain

Cost = float | str


class Hypothesis(NamedTuple):
    """Stated beforehand: `better` is better than `worse` in this figure (a key of `differences.FIGURES`)."""

    worse: str
    better: str
    figure: str = "reward"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the ends of its 95 % interval, None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the paper's Table 2: another model, another reward model, so another scale."""

    perplexity: float
    reward: float


@dataclass(frozen=True, slots=True)
class Member:
    """One seed of an arm.

    Attributes:
        spec: the path as it was given.
        seed: of training; None where it is not a run.
        evaluation: the evaluation's folder; None where it has none.
        reward, kl: means of its answers at temperature 1, kl a response in nats.
    """

    spec: str
    seed: int | None
    evaluation: str | None
    reward: float | None
    kl: float | None


@dataclass(frozen=True, slots=True)
class Start:
    """A policy that KL was measured from; `own`: it is the one that the run began from."""

    label: str
    weights: str
    own: bool


@dataclass(frozen=True, slots=True)
class Arm:
    """A row of the tables.

    Attributes:
        method: of its runs; None for a model.
        prompt: that stood around the queries of its evaluation; `none` for none.
        starts: what its seeds' KL was measured from, each once.
        figures: by name, see `figures.of`.
        unscored: of the answers at temperature 1, how many have no reward and how many there are, by reward model,
            where some have none.
        costs: by the name of the column: a mean over seeds, or what was given.
        paper: what the paper says of this method.
    """

    name: str
    method: str | None
    prompt: str | None
    members: tuple[Member, ...]
    starts: tuple[Start, ...]
    figures: dict[str, Figure]
    unscored: dict[str, tuple[int, int]]
    costs: dict[str, Cost]
    paper: Published | None

    @property
    def seeds(self) -> int:
        """How many of its members were evaluated: those that its figures are of."""
        return sum(member.evaluation is not None for member in self.members)


@dataclass(frozen=True, slots=True)
class HypothesisTest:
    """A hypothesis and what the evaluations say of it.

    Attributes:
        difference: `better` minus `worse`, on the same queries.
        p: two-sided, of no difference.
        adjusted: p after Holm's correction over all hypotheses.
        detectable: the smallest true difference that is found with a power of 80 % in Holm's first step.
        held_out: the same difference under the second reward model, where the figure is the reward.
        queries: that both have.
    """

    hypothesis: Hypothesis
    difference: Figure
    p: float
    adjusted: float
    detectable: float | None
    held_out: Figure | None
    queries: int
    expected: bool

    @property
    def verdict(self) -> str:
        """holds, the opposite, or open: what can be said at 5 % after Holm's correction."""
        if self.adjusted >= 0.05:
            return "open"
        return "holds" if self.expected else "the opposite"


@dataclass(frozen=True, slots=True)
class JudgedArms:
    """A row of Table 3: a wins, loses or ties against b.

    Attributes:
        source: where it comes from; `the paper` for the paper's.
        win_rate: (wins + ties / 2) / n.
        p: of the exact sign test.
        length_controlled: win rate at equal length; None where it was left out.
        unread: verdicts that could not be read or obtained.
        first: how often the judge prefers what it reads first, where that was measured.
        agreement: of the judge with people.
    """

    a: str
    b: str
    win: int
    lose: int
    tie: int
    win_rate: Figure | None
    p: float
    source: str
    judge: str | None = None
    unread: int = 0
    length_controlled: Figure | None = None
    first: Figure | None = None
    agreement: Figure | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """The reward of fresh answers to a run's held-out queries while it trained; a value each evaluation."""

    arm: str
    seed: int | None
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """What the first seed of an arm said, and its rewards by reward model; `text` is None where it gave no answer."""

    arm: str
    text: str | None
    finished: bool | None
    rewards: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The answers of all arms to one query."""

    query_id: str
    source: str
    query: str
    answers: tuple[ShownAnswer, ...]


@dataclass(frozen=True, slots=True)
class ComparedQueries:
    """What all arms answered; `sha256` is that of the queries."""

    name: str
    count: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Comparison(Plain):
    """Everything that is shown.

    Attributes:
        reward_models: in the order of the evaluations: the first is `reward`, the second the held-out one.
        negative: the prompt that the answers called `negative` were given under; None where there was none.
        chosen: mean reward of the chosen responses to the same queries, by reward model.
        notes: what a reader must know: what is missing, and what differs between evaluations.
    """

    queries: ComparedQueries
    reward_models: tuple[str, ...]
    negative: str | None
    chosen: dict[str, float]
    arms: tuple[Arm, ...]
    differences: tuple[HypothesisTest, ...]
    judged: tuple[JudgedArms, ...]
    curves: tuple[Curve, ...]
    samples: tuple[SideBySide, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        document = Plain.to_dict(self)
        for entry, held in zip(document["differences"], self.differences, strict=True):
            entry.update(hypothesis=held.hypothesis._asdict(), verdict=held.verdict)
        return document

    def _repr_html_(self) -> str:
        """What a notebook shows: rewards at temperature 1, and what the tests say."""
        facts = {f"{arm.name}, {model}": _of_arm(arm, model) for arm in self.arms for model in self.reward_models}
        for difference in self.differences:
            name = f"{difference.hypothesis.better} − {difference.hypothesis.worse}, {difference.hypothesis.figure}"
            facts[name] = f"{_shown(difference.difference)}, {difference.verdict}"
        return html_of_facts(f"{len(self.arms)} arms on {self.queries.count:,} queries", facts)


def _of_arm(arm: Arm, model: str) -> str:
    reward = arm.figures.get(f"sampled/reward/{model}")
    return figure(None) if reward is None else _shown(reward)


def _shown(estimate: Figure) -> str:
    return figure(estimate.value, estimate.low, estimate.high)
