"""What an evaluation says: the content of eval.json, typed. `figures` computes it, `folder` keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neat_data.notebook import figure, html_of_facts
from neat_data.plain import WHERE_KNOWN, Plain


@dataclass(frozen=True, slots=True)
class Estimate(Plain):
    """A figure and the ends of its 95 % interval over queries: None below two of them, as the figure is without any."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def shown(self) -> str:
        """In figures: the value, and its interval where there is one."""
        return figure(self.value, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """A mean of differences, query by query, and the two-sided p of none; p is None below two queries."""

    p: float | None = None


@dataclass(frozen=True, slots=True)
class WinRate(Plain):
    """(wins + ties / 2) over all of them, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True, slots=True)
class SourceEstimate(Estimate):
    """Of the `n` answers to the queries of one source."""

    n: int = 0


@dataclass(frozen=True, slots=True)
class SourceShare(Plain):
    """A share of the `n` answers to the queries of one source."""

    value: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Length(Plain):
    """Tokens of the answers; None where there are none."""

    mean: float | None = None
    p10: float | None = None
    median: float | None = None
    p90: float | None = None


@dataclass(frozen=True, slots=True)
class ThoughtFigures(Plain):
    """How many answers begin with a thought, and of those: how many never end it, and the median of its characters."""

    share: float
    unended: float
    characters: float


@dataclass(frozen=True, slots=True)
class Quantiles(Plain):
    """Of the perplexity of single responses."""

    p10: float
    median: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity(Estimate):
    """Of the chosen responses: exp(total negative log-likelihood / total `tokens`), over `responses`.

    Attributes:
        per_record: quantiles over the responses.
        cut: what was cut or left out, by reason.
    """

    tokens: int
    responses: int
    per_record: Quantiles
    cut: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KL(Plain):
    """KL from the start, in nats, estimated on answers at temperature 1; see `figures.kl_figures`."""

    per_token: Estimate
    per_response: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFigures(Plain):
    """How one reward model sees the answers of one decoding.

    Attributes:
        mean: over `scored` answers; `unscored`: those that the model refused.
        chosen, difference, win_rate: of the chosen responses to the same queries, and the answers against these; None
            where no query has both.
        length_correlation: Spearman's rho of reward and tokens; None where one of them never changes.
        by_source: the mean by query source.
    """

    mean: Estimate
    scored: int
    unscored: int
    chosen: Estimate | None
    difference: Difference | None
    win_rate: WinRate | None
    length_correlation: float | None
    by_source: Mapping[str, SourceEstimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeRewardFigures(RewardFigures):
    """Of the answers under the negative prompt.

    Attributes:
        against_sampled: less the reward of the answer at temperature 1 to the same query; None where none has both.
    """

    against_sampled: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingFigures(Plain):
    """The answers of one decoding.

    Attributes:
        answers, unanswered: queries with an answer, and without.
        length: in tokens.
        finished, empty, refusals: shares of the answers.
        refusals_by_source: where there are several query sources.
        thoughts: where an answer thinks.
        distinct: n -> distinct n-grams among all of the answers.
        kl: where it was estimated.
        rewards: by reward model.
    """

    answers: int
    unanswered: int
    length: Length
    finished: float | None
    empty: float | None
    refusals: float | None
    refusals_by_source: Mapping[str, SourceShare] | None = field(default=None, metadata=WHERE_KNOWN)
    thoughts: ThoughtFigures | None = field(default=None, metadata=WHERE_KNOWN)
    distinct: Mapping[str, float | None]
    kl: KL | None = field(default=None, metadata=WHERE_KNOWN)
    rewards: Mapping[str, NegativeRewardFigures | RewardFigures]


@dataclass(frozen=True, slots=True)
class EvaluatedPolicy(Plain):
    """What was evaluated; method and seed are those of a run."""

    spec: str
    label: str
    kind: str
    method: str | None
    seed: int | None
    weights: str | None


@dataclass(frozen=True, slots=True)
class MeasuredFrom(Plain):
    """The policy that KL is measured from; `own`: it is the one that the run began from."""

    spec: str
    label: str
    weights: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class AskedQueries(Plain):
    """What was asked.

    Attributes:
        with_chosen: how many of the `count` have a chosen response.
        left_out: rows of the source that could not be used, by reason.
    """

    source: str
    name: str
    count: int
    sha256: str
    with_chosen: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LeftOut(Plain):
    """What has no answer, no reward, or was cut, by reason: answers by decoding, rewards by model and decoding."""

    answers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    perplexity: Mapping[str, int] = field(default_factory=dict)
    rewards: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult(Plain):
    """Every figure of an evaluation.

    Attributes:
        format: of the file.
        start: None where KL was left out.
        prompt: that stood around the queries; `none` for none.
        seed: of the answers at temperature 1.
        settings: all that can change a figure.
        reward_models: what each was loaded with.
        perplexity: None where the queries have no chosen responses.
        decodings: `greedy`, `sampled` (temperature 1) and `negative` (temperature 1, under the negative prompt).
        versions: of the packages.
    """

    format: int
    subject: EvaluatedPolicy
    start: MeasuredFrom | None = None
    queries: AskedQueries
    prompt: str
    seed: int
    settings: Mapping[str, Any]
    reward_models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    perplexity: Perplexity | None = None
    decodings: Mapping[str, DecodingFigures]
    versions: Mapping[str, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """What a notebook shows: perplexity, and the rewards of each decoding."""
        facts = {} if self.perplexity is None else {"perplexity": self.perplexity.shown()}
        for name, decoding in self.decodings.items():
            facts |= {f"{name}, {model}": of_model.mean.shown() for model, of_model in decoding.rewards.items()}
        return html_of_facts(f"{self.subject.label} on {self.queries.count:,} queries of {self.queries.name}", facts)
