"""What is known before a model is asked, and what it decides.

`plan_of` takes which token belongs to which response, which response to which record, and the rewards. It settles each
record's best and worst response, its strictly ordered pairs, the response to penalise, and so for how many records each
term is defined. On the host, where looking at values stalls no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean, pstdev

import torch
from torch import Tensor

from neat_train.config.objective import ObjectiveSettings, Penalised


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Which token belongs to which response, which response to which record, and what the rewards are.

    Attributes:
        response: (tokens,) int64, index of the response; where the mask is false it has no meaning.
        mask: (tokens,) bool, true where the position predicts a token of the response (its end-of-turn, if any, too).
        record: (responses,) int64, any number >= 0 that the responses of one record share; -1 belongs to no record (a
            filler, or a copy that `prompted` points at).
        reward: (responses,) rewards; ignored where `record` is -1.
        negative: (responses,) bool, true where the response was sampled under a negative prompt; None: none was.
        prompted: (responses,) int64, for each response the index of the one to penalise in its stead: its copy behind
            the prompt that produced it, or itself; None: every response itself.
        query: (responses,) int64, tokens of the query before each response; only the normaliser `padded` asks for them.
    """

    response: Tensor
    mask: Tensor
    record: Tensor
    reward: Tensor
    negative: Tensor | None = None
    prompted: Tensor | None = None
    query: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TermCounts:
    """For how many records each term is defined."""

    sft: int
    ranking: int
    penalty: int

    def __add__(self, other: TermCounts) -> TermCounts:
        return TermCounts(self.sft + other.sft, self.ranking + other.ranking, self.penalty + other.penalty)


@dataclass(frozen=True, slots=True, eq=False)
class LossPlan:
    """What the layout and its rewards decide, as tensors of response indices unless said otherwise.

    Attributes:
        response: (tokens,), 0 where the mask is false.
        mask: (tokens,) bool.
        length: (responses,) float32, tokens under the mask; 1 for a filler without any.
        best: (records,) the highest reward of every record, the first among equals.
        top, bottom: (contrasts,) highest and lowest reward (the last among equals) where the two differ.
        lower, higher: (pairs,) the strictly ordered pairs of all records.
        pairs_of_record: (pairs,) float32, how many such pairs the pair's record has.
        target: (penalties,) the responses to penalise.
        negative_bottom: (contrasts,) bool, whether `bottom` was sampled under a negative prompt.
        reward: (responses,)
        lists: (ranked, k) the responses of every record that the ranking term is defined for, best first; -1 behind
            the last of a shorter one.
        padded: (responses,) float32, tokens of the query and of the record's longest response: the row that holds the
            response where a record is a padded batch; None where the layout says nothing of queries.
    """

    response: Tensor
    mask: Tensor
    length: Tensor
    best: Tensor
    top: Tensor
    bottom: Tensor
    lower: Tensor
    higher: Tensor
    pairs_of_record: Tensor
    target: Tensor
    negative_bottom: Tensor
    reward: Tensor
    lists: Tensor
    padded: Tensor | None = None

    @property
    def contrasts(self) -> int:
        """Records with two different rewards: those that have a strict pair, and a worst that is not their best."""
        return len(self.bottom)

    @property
    def counts(self) -> TermCounts:
        return TermCounts(len(self.best), len(self.lists), len(self.target))

    def counted(self, settings: ObjectiveSettings) -> TermCounts:
        """What each term is divided by: records, or the tokens that the SFT term learns where it is a mean of these."""
        if settings.sft.per == "record":
            return self.counts
        return replace(self.counts, sft=int(self.length[self.best].sum()))

    def referenced(self, settings: ObjectiveSettings) -> Tensor:
        """The responses that the reference's log-probabilities are needed of, each once."""
        ranked = self.lists[self.lists >= 0] if settings.active_ranking.needs_reference else self.target[:0]
        penalised = self.target if settings.penalty_needs_reference else self.target[:0]
        return torch.cat([ranked, penalised]).unique()

    def to(self, device: torch.device | str) -> LossPlan:
        """The same plan with its tensors on `device`."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})


def plan_for(layout: Layout, settings: ObjectiveSettings) -> LossPlan:
    """`plan_of` for an objective."""
    return plan_of(layout, settings.penalised, settings.active_ranking.needs_contrast)


def plan_of(layout: Layout, target: Penalised = "worst", contrast: bool = True) -> LossPlan:
    """Settle what the rewards decide: on the host, where looking at values stalls no device, and for a step at most,
    not a dataset, as responses are compared all with all.

    A record whose rewards are all equal, or with one response, has neither pair nor penalty. With target
    `negative_prompt` the penalty falls on the lowest reward among a record's negative-prompted responses, where that is
    lower than the record's best. With `mu-2sigma` it falls on the response nearest to the record's mean reward less two
    standard deviations (arXiv 2502.16825), with `best` on the best.

    Args:
        contrast: whether the ranking term is defined for records with two different rewards; if not, for those with
            two responses.

    Raises:
        ValueError: shapes or types do not fit, a reward is not finite, a response of a record has no token, or
            `negative_prompt` is asked for and the layout does not say which responses those are.
    """
    _check_shapes(layout)
    length = torch.zeros(len(layout.record), device=layout.mask.device)
    response = torch.where(layout.mask, layout.response, 0)
    length = length.index_add(0, response, layout.mask.float())
    order = _best_first(layout)
    _check_values(layout, order, length)
    first, last = _ends(layout.record[order])
    best, worst = order[first], order[last]
    differ = layout.reward[worst] < layout.reward[best]
    lists = _lists(order, first, last)
    lower, higher, pairs_of_record = _strict_pairs(layout)
    ends = {"worst": worst[differ], "best": best[differ]}
    match target:
        case "negative_prompt":
            penalised = _lowest_negative(layout, order, best)
        case "mu-2sigma":
            penalised = _two_deviations_down(layout.reward, lists[differ])
        case _:
            penalised = ends[target]
    if layout.prompted is not None:
        penalised = layout.prompted[penalised]
    if not bool((length[penalised] > 0).all()):
        raise ValueError("the copy of a response behind its prompt has no token under the mask")
    return LossPlan(
        response=response,
        mask=layout.mask,
        length=length.clamp(min=1),
        best=best,
        top=best[differ],
        bottom=worst[differ],
        lower=lower,
        higher=higher,
        pairs_of_record=pairs_of_record,
        target=penalised,
        reward=layout.reward,
        lists=lists[differ] if contrast else lists[last > first],
        negative_bottom=torch.zeros_like(differ[differ]) if layout.negative is None else layout.negative[worst[differ]],
        padded=None if layout.query is None else (layout.query + _longest(layout.record, length)).clamp(min=1),
    )


def _check_shapes(layout: Layout) -> None:
    if layout.mask.dtype != torch.bool or layout.mask.ndim != 1:
        raise ValueError(f"the mask is a flat bool tensor, not {layout.mask.dtype} of {tuple(layout.mask.shape)}")
    by_token, by_response = [layout.response], [layout.reward]
    by_response += [t for t in (layout.negative, layout.prompted, layout.query) if t is not None]
    for group, like in ((by_token, layout.mask), (by_response, layout.record)):
        for tensor in group:
            if tensor.shape != like.shape:
                raise ValueError(f"shapes differ: {tuple(tensor.shape)} beside {tuple(like.shape)}")


def _check_values(layout: Layout, order: Tensor, length: Tensor) -> None:
    if not bool(layout.reward[order].isfinite().all()):
        raise ValueError("a reward is not a finite number")
    empty = order[length[order] == 0].tolist()
    if empty:
        raise ValueError(f"response {min(empty)} has no token under the mask: its log-probability is not defined")


def _best_first(layout: Layout) -> Tensor:
    """Responses that have a record, record by record, best first; equal rewards keep the order given."""
    order = torch.argsort(layout.reward, descending=True, stable=True)
    order = order[torch.argsort(layout.record[order], stable=True)]
    return order[layout.record[order] >= 0]


def _ends(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Where each run of equal numbers begins and ends (inclusive)."""
    sizes = torch.unique_consecutive(groups, return_counts=True)[1]
    ends = sizes.cumsum(0)
    return ends - sizes, ends - 1


def _lists(order: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The responses of each record, best first, -1 behind the last  # (records, k)"""
    sizes = last - first + 1
    places = torch.arange(int(sizes.max()) if len(sizes) else 1, device=order.device)
    return torch.where(places < sizes[:, None], order[(first[:, None] + places).clamp(max=len(order) - 1)], -1)


def _two_deviations_down(reward: Tensor, lists: Tensor) -> Tensor:
    """Of each list the response nearest to mean - 2 standard deviations, the later of two, but not one as good as the
    best  # (records, k) -> (records,)
    """
    picks = [two_deviations_down(reward[places[places >= 0]].tolist()) for places in lists]
    picked = torch.tensor(picks, dtype=torch.int64, device=lists.device)
    return lists.gather(1, picked[:, None])[:, 0]


def two_deviations_down(rewards: Sequence[float]) -> int:
    """The place of the reward nearest to mean - 2 standard deviations (of the population), the last of equal ones;
    never one of the highest.

    >>> two_deviations_down([1.0, 0.0]), two_deviations_down([1.0] * 12 + [0.2, -0.2, -9.0])
    (1, 14)
    """
    aim = fmean(rewards) - 2 * pstdev(rewards)
    below = [place for place, reward in enumerate(rewards) if reward < max(rewards)]
    return min(below, key=lambda place: (abs(rewards[place] - aim), -place))


def _strict_pairs(layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and higher response of every pair of one record with r_lower < r_higher, and the pairs its record has."""
    record, reward = layout.record, layout.reward
    same = (record[:, None] == record) & (record >= 0)
    lower, higher = torch.nonzero(same & (reward[:, None] < reward), as_tuple=True)
    _, group, sizes = torch.unique(record[lower], return_inverse=True, return_counts=True)
    return lower, higher, sizes[group].float()


def _longest(record: Tensor, length: Tensor) -> Tensor:
    """For each response the length of its record's longest; its own where it has no record."""
    same = (record[:, None] == record) & (record >= 0)
    return torch.maximum(torch.where(same, length, 0).amax(1), length)


def _lowest_negative(layout: Layout, order: Tensor, best: Tensor) -> Tensor:
    """Of each record the lowest reward among the negative-prompted, where it is below the record's best."""
    if layout.negative is None:
        raise ValueError("target negative_prompt needs to know which responses were sampled under a negative prompt")
    order = order[layout.negative[order]]
    lowest = order[_ends(layout.record[order])[1]]
    of_record = torch.searchsorted(layout.record[best], layout.record[lowest])  # `best` is sorted by record
    return lowest[layout.reward[lowest] < layout.reward[best[of_record]]]
