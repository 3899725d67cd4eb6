"""How far apart the responses of a dataset are, and what the reward may really be measuring.

`compute` reads a dataset once (`columns`) and returns `Stats`: counts, shares with intervals, quantiles and what
the figures draw. Everything about people's judgement runs over the labels' pairs. Printing and drawing are `report`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neat_data.analysis.agreement import Agreement, agreement
from neat_data.analysis.columns import Columns, Pairs, Responses, Verdicts, columns
from neat_data.analysis.measures import (
    Share,
    Summary,
    auc,
    counts_between,
    quantiles,
    share,
    sigmoid,
    spearman,
    summary,
)
from neat_data.analysis.polarity import Polarities, compare
from neat_data.errors import InputError
from neat_data.notebook import figure, html_of_facts
from neat_data.plain import WHERE_KNOWN, Plain
from neat_data.store.manifest import reward_model
from neat_data.store.scores.format import OWN

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset

PAPER_MODEL = "sfairXC/FsfairX-LLaMA3-RM-v0.1"
PAPER = {1.0: "around 25 %", 5.0: "less than 0.5 %"}
GROUPS = 100
EXAMPLES = 10
POLARITY = "polarity"
BINS = 40  # of the pictures of rewards and lengths


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
class Length:
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
    length: Length
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


def compute(
    dataset: PreferenceDataset,
    *,
    thresholds: Sequence[float] = (1.0, 5.0),
    by: str | None = None,
    where: str | None = None,
    rank_by: str | None = None,
) -> Stats:
    """The figures of a dataset, in one streaming pass over its records.

    Args:
        dataset: what `neat_data.open` returns.
        thresholds: gaps, in the reward's unit; shares count what exceeds them strictly.
        by: source, subset, split, turns, meta.KEY, or polarity, which breaks down responses instead of pairs.
        where: a SQL expression over the record; see `expressions.select`.
        rank_by: as `PreferenceDataset.records` takes it.

    Raises:
        InputError: a threshold below 0 or not finite; `by`, `where` or `rank_by` cannot be understood.
    """
    _require_gaps(thresholds)
    model = ranking_model(dataset, rank_by)
    scale = "paper" if (model or "").split("@")[0] == PAPER_MODEL else "another"
    models = dataset.models if len(dataset.models) > 1 else ()
    group = None if by == POLARITY else by  # pairs have two responses each, and maybe two polarities
    read = columns(dataset.scan_records(rank_by=rank_by, scores=bool(models)), by=group, where=where, models=models)
    pairs, responses = read.pairs, scored_only(read.responses)
    rewards = reward_groups(responses, read.names)
    groups = by_group(pairs, read.names["group"], thresholds, scale) if group else []
    groups.sort(key=_turns if by == "turns" else _size)
    agreed = agreement(read.compared, models, pairs.record, len(read.responses.reward)) if read.compared else None
    with ThreadPoolExecutor(max_workers=1) as beside:  # numpy lets go of the interpreter while it sorts
        length = beside.submit(length_effect, responses, pairs)
        drawn = beside.submit(figures, responses, read.names, pairs, thresholds)
        return Stats(
            reward_model=model,
            rank_by=rank_by,
            left_out=dataset.left_out(rank_by),
            complete=dataset.complete,
            scale=scale,
            by=by,
            where=where,
            counts=_counts(read, dataset),
            thresholds=beyond(pairs, thresholds, scale),
            ties=share(pairs.gap == 0, pairs.record),
            disagreement=share(pairs.gap < 0, pairs.record),
            gaps=gap_summaries(pairs.gap, rewards[0].rewards.std, read.spread),
            gap_bins=gap_bins(pairs),
            rewards=rewards,
            thoughts=thoughts(read.responses),
            unpaired=unpaired(read.verdicts),
            groups=tuple(groups[:GROUPS]),
            groups_left_out=max(0, len(groups) - GROUPS),
            polarities=compare(dataset.scan_records(rank_by=rank_by), where) if by == POLARITY else None,
            agreement=agreed,
            widest=examples(pairs, np.abs(pairs.gap)),
            narrowest=examples(pairs, -np.abs(pairs.gap)),
            wrong=examples(pairs, -pairs.gap, among=pairs.gap < 0),
            length=length.result(),
            figures=drawn.result(),
        )


def _require_gaps(thresholds: Sequence[float]) -> None:
    for threshold in thresholds:
        if not 0 <= threshold < float("inf"):
            raise InputError("a gap is a number from 0 up", field="thresholds", value=threshold)


def ranking_model(dataset: PreferenceDataset, rank_by: str | None) -> str | None:
    """The reward model that the ranking goes by; several are named as the ranking names them."""
    if rank_by in (None, OWN):
        return reward_model(dataset.manifest.settings)
    scores = dataset.models[1:]
    return reward_model(dataset.scores(rank_by).settings) if rank_by in scores else f"{rank_by} (standardised)"


def beyond(pairs: Pairs, thresholds: Sequence[float], scale: str) -> tuple[Threshold, ...]:
    """The shares of pairs beyond each threshold, strictly."""
    return tuple(
        Threshold(
            threshold=float(threshold),
            absolute=share(np.abs(pairs.gap) > threshold, pairs.record),
            signed=share(pairs.gap > threshold, pairs.record),
            paper=PAPER.get(threshold) if scale == "paper" else None,
        )
        for threshold in thresholds
    )


def scored_only(responses: Responses) -> Responses:
    """The responses that have a reward."""
    scored = ~np.isnan(responses.reward)
    return responses if scored.all() else Responses(*(getattr(responses, name)[scored] for name in Responses.__slots__))


def gap_summaries(gap: np.ndarray, deviation: float | None, spread: np.ndarray) -> Gaps:
    """Summaries of the signed gap and of what follows from it; `deviation` is that of all rewards."""
    signed, size = np.sort(gap), np.sort(np.abs(gap))
    return Gaps(
        signed=summary(signed),
        absolute=summary(size),
        probability=summary(sigmoid(signed)),
        relative=summary(size / deviation if deviation else size[:0]),
        best_to_worst=summary(np.sort(spread)),
    )


def gap_bins(pairs: Pairs, bins: int = 5) -> tuple[GapBin, ...]:
    """Pairs with unequal rewards cut at the quintiles of the gap's size; each bin includes its upper edge."""
    unequal = pairs.gap != 0
    size, record, agrees = np.abs(pairs.gap[unequal]), pairs.record[unequal], pairs.gap[unequal] > 0
    if not len(size):
        return ()
    edges = quantiles(np.sort(size), tuple(i / bins for i in range(bins + 1)))
    place = np.searchsorted(edges[1:-1], size, side="left")
    inside = [(i, place == i) for i in range(bins)]
    return tuple(GapBin(edges[i], edges[i + 1], share(agrees[m], record[m])) for i, m in inside if m.any())


def reward_groups(responses: Responses, names: dict[str, list[str | None]]) -> tuple[RewardGroup, ...]:
    """Rewards of all responses, then by origin, polarity and round."""
    everything = summary(np.sort(responses.reward))
    collected = [RewardGroup("all", None, everything)]
    for kind in ("origin", "polarity", "round"):
        codes = getattr(responses, kind)
        present = np.flatnonzero(np.bincount(codes.astype(np.int64)))
        called = [str(code) if kind == "round" else names[kind][code] for code in present]
        if called == [None]:
            continue  # a polarity that no response has says nothing
        parts = (
            [everything]
            if len(present) == 1
            else [summary(np.sort(responses.reward[codes == code])) for code in present]
        )
        groups = [RewardGroup(kind, name, part) for name, part in zip(called, parts, strict=True)]
        collected += groups if kind == "round" else sorted(groups, key=lambda group: group.name or "")
    return tuple(collected)


def length_effect(responses: Responses, pairs: Pairs) -> Length:
    """Does the longer response win? Ties of the reward and pairs of equal length say nothing and are left out."""
    unequal = pairs.longer != 0
    decided = unequal & (pairs.gap != 0)
    return Length(
        spearman=spearman(responses.reward, responses.chars.astype(np.int32)),
        by_reward=share((pairs.longer[decided] > 0) == (pairs.gap[decided] > 0), pairs.record[decided]),
        by_people=share(pairs.longer[unequal] > 0, pairs.record[unequal]),
    )


def thoughts(responses: Responses) -> Thoughts | None:
    """How often responses think, how long, and what they get for it."""
    thinks = responses.thought >= 0
    if not thinks.any():
        return None
    scored = ~np.isnan(responses.reward)
    return Thoughts(
        share=float(thinks.mean()),
        unended=float(responses.unended[thinks].mean()),
        characters=summary(np.sort(responses.thought[thinks])),
        with_thought=summary(np.sort(responses.reward[thinks & scored])),
        without=summary(np.sort(responses.reward[~thinks & scored])),
    )


def unpaired(verdicts: Verdicts) -> Unpaired:
    """Rewards by verdict, and the chance that an accepted response has more reward than a refused one."""
    said = verdicts.verdict.astype(bool)
    accepted, refused = np.sort(verdicts.reward[said]), np.sort(verdicts.reward[~said])
    return Unpaired(summary(accepted), summary(refused), auc(accepted, refused))


def by_group(pairs: Pairs, names: Sequence[str | None], thresholds: Sequence[float], scale: str) -> list[Group]:
    """The pairs' figures for every group that has any."""
    order = np.argsort(pairs.group, kind="stable")
    ends = np.cumsum(np.bincount(pairs.group.astype(np.int64), minlength=len(names)))
    parts = np.split(order, ends)[: len(names)]  # the stable sort keeps a query's pairs side by side
    taken = [(name, _taken(pairs, these)) for name, these in zip(names, parts, strict=True) if len(these)]
    return [_group(part, name, thresholds, scale) for name, part in taken]


def _taken(pairs: Pairs, these: np.ndarray) -> Pairs:
    return Pairs(*(getattr(pairs, name)[these] for name in Pairs.__slots__))


def _group(pairs: Pairs, name: str | None, thresholds: Sequence[float], scale: str) -> Group:
    return Group(
        name=name,
        pairs=len(pairs.gap),
        thresholds=beyond(pairs, thresholds, scale),
        ties=share(pairs.gap == 0, pairs.record),
        disagreement=share(pairs.gap < 0, pairs.record),
        mean_gap=float(pairs.gap.mean()),
        median_gap=float(np.median(np.abs(pairs.gap))),
    )


def _size(group: Group) -> tuple[int, str]:
    return -group.pairs, group.name or ""


def _turns(group: Group) -> tuple[int, str]:
    return int(group.name or 0), ""


def examples(
    pairs: Pairs, merit: np.ndarray, among: np.ndarray | None = None, count: int = EXAMPLES
) -> tuple[PairAt, ...]:
    """The pairs of highest merit, one a record, ties in the dataset's order.

    Args:
        merit: float, one a pair.
        among: bool, one a pair: those that may be taken.
    """
    merit = merit if among is None else np.where(among, merit, -np.inf)
    allowed = np.flatnonzero(merit > -np.inf)
    if not len(allowed):
        return ()
    best_of = _best_of_each(pairs.record[allowed], merit[allowed])
    allowed = allowed[best_of]
    cut = min(count, len(allowed))
    floor = np.partition(merit[allowed], -cut)[-cut]
    top = allowed[merit[allowed] >= floor]
    top = top[np.argsort(-merit[top], kind="stable")][:cut]
    return tuple(
        PairAt(int(pairs.record[i]), int(pairs.chosen[i]), int(pairs.rejected[i]), float(pairs.gap[i])) for i in top
    )


def _best_of_each(record: np.ndarray, merit: np.ndarray) -> np.ndarray:
    """Index of the first entry of highest merit in every run of equal records."""
    begins = np.flatnonzero(np.concatenate([[True], record[1:] != record[:-1]]))
    if len(begins) == len(record):
        return begins
    runs = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(record))))
    is_best = np.flatnonzero(merit == np.maximum.reduceat(merit, begins)[runs])
    return is_best[np.unique(runs[is_best], return_index=True)[1]]


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


def _counts(read: Columns, dataset: PreferenceDataset) -> Counts:
    """What was read, beside what the manifest says of rows that never became records."""
    rejected: dict[str, int] = {}
    summary: dict[str, Any] = {}
    for part in dataset.manifest.rounds:
        summary |= {name: part.summary[name] for name in ("source_rows", "queries_cut") if name in part.summary}
        for reason, count in part.summary.get("rejected", {}).items():
            rejected[reason] = rejected.get(reason, 0) + int(count)
    return Counts(
        records=read.counts["records"],
        responses=len(read.responses.reward),
        dropped=dataset.dropped_count,
        unscored=int(np.isnan(read.responses.reward).sum()),
        truncated=read.counts["truncated"],
        labels=read.counts["labels"],
        pairs=len(read.pairs.gap),
        unscored_pairs=read.counts["unscored_pairs"],
        repeated=read.counts["repeated"],
        source_rows=summary.get("source_rows"),
        queries_cut=summary.get("queries_cut"),
        rejected=dict(sorted(rejected.items())),
    )
