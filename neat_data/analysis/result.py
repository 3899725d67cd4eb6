"""What `stats` computes, as plain data: counts, shares with intervals, quantiles, and what the pictures draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from neat_data.analysis.agreement import Agreement
from neat_data.analysis.measures import Share, Summary
from neat_data.analysis.polarity import Polarities
from neat_data.notebook import figure, html_of_facts
from neat_data.plain import WHERE_KNOWN, Plain


@dataclass(frozen=True, slots=True)
class Counts:
    """What the dataset holds. `repeated`: source rows whose query stood in an earlier row.

    `dropped`: responses that reviewers dropped, which no other figure counts.
    """

    records: int
    responses: int
    dropped: int
    unscored: int
    truncated: int
    labels: int
    pairs: int
    unscored_pairs: int
    repeated: int
    source_rows: int | None
    queries_cut: int | None
    rejected: dict[str, int]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Pairs whose gap exceeds `threshold` (strictly), and the paper's figure where the reward model is the paper's."""

    threshold: float
    absolute: Share
    signed: Share
    paper: str | None


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gap of the pairs, in the reward's own unit and in figures that no reward model's scale touches.

    Attributes:
        signed, absolute: reward of chosen minus reward of rejected, and its size.
        probability: sigmoid of the signed gap, the chance that a Bradley-Terry model gives the chosen response.
        relative: size of the gap over the standard deviation of all rewards.
        best_to_worst: of the records with more than two scored responses.
    """

    signed: Summary
    absolute: Summary
    probability: Summary
    relative: Summary
    best_to_worst: Summary


@dataclass(frozen=True, slots=True)
class GapBin:
    """A fifth of the pairs with unequal rewards, by size of the gap: how often the reward sides with people."""

    low: float
    high: float
    agreement: Share


@dataclass(frozen=True, slots=True)
class RewardGroup:
    """The rewards of the responses of one origin, polarity or round (`kind`); all of them for kind `all`."""

    kind: str
    name: str | None
    rewards: Summary


@dataclass(frozen=True, slots=True)
class LengthEffect:
    """What length explains. `by_reward` and `by_people`: share of pairs of unequal length that the longer one wins."""

    spearman: float | None
    by_reward: Share
    by_people: Share


@dataclass(frozen=True, slots=True)
class Thoughts:
    """The responses that think before they answer.

    Attributes:
        share: of all responses.
        unended: of those that think, the share whose thought never ends.
        characters: of the thoughts.
        with_thought, without: rewards of the responses that think, and of the others.
    """

    share: float
    unended: float
    characters: Summary
    with_thought: Summary
    without: Summary


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Labels of a single response: the rewards of those people accepted and of those they did not."""

    accepted: Summary
    refused: Summary
    auc: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs of one value of `--by`."""

    name: str | None
    pairs: int
    thresholds: tuple[Threshold, ...]
    ties: Share
    disagreement: Share
    mean_gap: float | None
    median_gap: float | None


@dataclass(frozen=True, slots=True)
class PairAt:
    """Where a pair stands: record number, positions of its responses in the record, signed gap."""

    record: int
    chosen: int
    rejected: int
    gap: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What the pictures draw; counts between edges, outermost bins holding what lies beyond. Empty where not known.

    Attributes:
        gap_edges, gap_counts: signed gap.
        cumulative: sizes of the gap at 0, 0.5, … 100 % of the pairs.
        reward_edges, reward_counts: rewards, by origin.
        length_edges: characters, geometric.
        density: counts (length bin, reward bin).
        length_mean: mean reward in each length bin, None where it is empty.
    """

    gap_edges: tuple[float, ...] = ()
    gap_counts: tuple[int, ...] = ()
    cumulative: tuple[float, ...] = ()
    reward_edges: tuple[float, ...] = ()
    reward_counts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    length_edges: tuple[float, ...] = ()
    density: tuple[tuple[int, ...], ...] = ()
    length_mean: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Stats(Plain):
    """Every figure of `neat-data stats`.

    Attributes:
        reward_model: whose rewards these are, as the manifest names it; None where it does not.
        rank_by: the scores that stand in for the dataset's own rewards, None for these.
        left_out: responses that the ranking leaves out, since a model of it refused them.
        complete: whether every round was finished.
        scale: `paper` where the reward model is the paper's own, else `another`.
        ties: pairs with equal rewards.
        disagreement: pairs whose signed gap is below 0.
        thoughts: None where no response thinks.
        polarities: where `by` is polarity.
        groups: by `by`, the largest first (numbers in order for `turns`), `GROUPS` of them at most.
        agreement: how far the reward models agree; None where there is one.
        widest, narrowest, wrong: pairs worth reading, no more than one a record.
        figures: not in the JSON, so empty after `from_dict`.
    """

    reward_model: str | None
    rank_by: str | None
    left_out: int
    complete: bool
    scale: str
    by: str | None
    where: str | None
    counts: Counts
    thresholds: tuple[Threshold, ...]
    ties: Share
    disagreement: Share
    gaps: Gaps
    gap_bins: tuple[GapBin, ...]
    rewards: tuple[RewardGroup, ...]
    length: LengthEffect
    unpaired: Unpaired
    groups: tuple[Group, ...]
    groups_left_out: int
    polarities: Polarities | None
    agreement: Agreement | None
    widest: tuple[PairAt, ...]
    narrowest: tuple[PairAt, ...]
    wrong: tuple[PairAt, ...]
    thoughts: Thoughts | None = field(default=None, metadata=WHERE_KNOWN)
    figures: Figures = field(default_factory=Figures)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python for JSON: finite numbers, None where a figure is not defined; without `figures`."""
        content = Plain.to_dict(self)
        del content["figures"]
        return content

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        facts = {
            "records": f"{self.counts.records:,}",
            "responses": f"{self.counts.responses:,}",
            "pairs": f"{self.counts.pairs:,}",
            "mean gap": figure(self.gaps.signed.mean),
            **{f"gap beyond {t.threshold:g}": _of_pairs(t.absolute) for t in self.thresholds},
            "ties": _of_pairs(self.ties),
            "against people": _of_pairs(self.disagreement),
        }
        return html_of_facts(f"Stats by the rewards of {self.reward_model or 'an unknown model'}", facts)


def _of_pairs(share: Share) -> str:
    return figure(share.share, share.low, share.high)
