"""How far apart the responses of a dataset are, and what the reward may really be measuring.

`compute` reads a dataset once (`columns`) and returns `Stats`; what the figures draw is counted in `histograms`.
Everything about people's judgement runs over the labels' pairs. Printing and drawing are `report`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from neat_data.analysis.agreement import agreement
from neat_data.analysis.columns import Columns, Pairs, Responses, Verdicts, columns
from neat_data.analysis.histograms import figures
from neat_data.analysis.measures import auc, quantiles, share, sigmoid, spearman, summary
from neat_data.analysis.polarity import compare
from neat_data.analysis.result import (
    Counts,
    GapBin,
    Gaps,
    Group,
    LengthEffect,
    PairAt,
    RewardGroup,
    Stats,
    Thoughts,
    Threshold,
    Unpaired,
)
from neat_data.errors import InputError
from neat_data.store.manifest import reward_model
from neat_data.store.scores.format import OWN

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset

PAPER_MODEL = "sfairXC/FsfairX-LLaMA3-RM-v0.1"
PAPER = {1.0: "around 25 %", 5.0: "less than 0.5 %"}
GROUPS = 100
EXAMPLES = 10
POLARITY = "polarity"


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
    pairs = read.pairs
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
        gap_bins=gap_bins(pairs),
        unpaired=unpaired(read.verdicts),
        polarities=compare(dataset.scan_records(rank_by=rank_by), where) if by == POLARITY else None,
        agreement=agreement(read.compared, models, pairs.record, len(read.responses.reward)) if read.compared else None,
        **_of_responses(read, thresholds),
        **_worth_reading(pairs),
        **_groups(read, by, thresholds, scale),
    )


def _of_responses(read: Columns, thresholds: Sequence[float]) -> dict[str, Any]:
    pairs, responses = read.pairs, scored_only(read.responses)
    rewards = reward_groups(responses, read.names)
    with ThreadPoolExecutor(max_workers=1) as beside:  # numpy lets go of the interpreter while it sorts
        length = beside.submit(length_effect, responses, pairs)
        drawn = beside.submit(figures, responses, read.names, pairs, thresholds)
        return {
            "gaps": gap_summaries(pairs.gap, rewards[0].rewards.std, read.spread),
            "rewards": rewards,
            "thoughts": thoughts(read.responses),
            "length": length.result(),
            "figures": drawn.result(),
        }


def _worth_reading(pairs: Pairs) -> dict[str, Any]:
    return {
        "widest": examples(pairs, np.abs(pairs.gap)),
        "narrowest": examples(pairs, -np.abs(pairs.gap)),
        "wrong": examples(pairs, -pairs.gap, among=pairs.gap < 0),
    }


def _groups(read: Columns, by: str | None, thresholds: Sequence[float], scale: str) -> dict[str, Any]:
    groups = by_group(read.pairs, read.names["group"], thresholds, scale) if by not in (None, POLARITY) else []
    groups.sort(key=_turns if by == "turns" else _size)
    return {"groups": tuple(groups[:GROUPS]), "groups_left_out": max(0, len(groups) - GROUPS)}


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


def length_effect(responses: Responses, pairs: Pairs) -> LengthEffect:
    """Does the longer response win? Ties of the reward and pairs of equal length say nothing and are left out."""
    unequal = pairs.longer != 0
    decided = unequal & (pairs.gap != 0)
    return LengthEffect(
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
