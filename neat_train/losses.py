"""The objective of NEAT as pure functions of tensors: L = L_sft + alpha * L_ranking + beta * L_penalty (NEAT Eq. 8).

Two steps. `plan_of` takes what is known before a model is asked (which token belongs to which response, which response
to which record, the rewards) and settles everything the rewards decide: each record's best and worst response, its
strictly ordered pairs, the response to penalise, and so for how many records each term is defined. `objective` takes
the log-probabilities and that plan and returns each term as a sum over records with its count; `total` weighs them.

Terms are sums, so that micro-batches, accumulation and ranks change nothing: a caller adds the plans' counts over the
whole optimiser step first, and gives them to `total` in every micro-batch.

Log-probabilities are flat, (tokens,), in any order and with any positions masked out; a padded batch is flattened, its
row being the response. One mask decides which positions count and how long a response is. Inputs are never written to.
Left to the caller: undoing the mean over ranks of distributed data parallelism, and stopping a run that diverges.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from neat_train.config.objective import (
    NPO,
    Likelihood,
    NoPenalty,
    Normaliser,
    ObjectiveSettings,
    PairReduction,
    Penalty,
    Reduction,
    Target,
    Unlikelihood,
)

SUREST = -1e-6  # log-probabilities above it count as this one in log(1 - rho), which is -inf at rho = 1


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
    padded: Tensor | None = None

    @property
    def contrasts(self) -> int:
        """Records with two different rewards: those that have a strict pair, and a worst that is not their best."""
        return len(self.bottom)

    @property
    def counts(self) -> TermCounts:
        return TermCounts(len(self.best), self.contrasts, len(self.target))

    def to(self, device: torch.device | str) -> LossPlan:
        """The same plan with its tensors on `device`."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A sum, a scalar tensor, and of how many."""

    sum: Tensor
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The three terms, each summed over the records for which it is defined."""

    sft: Component
    ranking: Component
    penalty: Component


@dataclass(frozen=True, slots=True, eq=False)
class Diagnostics:
    """What to watch beside the loss, without gradients.

    Attributes:
        best_logp, worst_logp: length-normalised log-probability of the best and the worst response, over the records
            in which the two differ. Both can fall while their distance grows.
        accuracy: strictly ordered pairs in which the higher reward is also the likelier response, of all such pairs.
        negative_worst: records whose worst response was sampled under a negative prompt, of those with two rewards.
    """

    best_logp: Component
    worst_logp: Component
    accuracy: Component
    negative_worst: Component


def plan_of(layout: Layout, target: Target = "worst") -> LossPlan:
    """Settle what the rewards decide: on the host, where looking at values stalls no device, and for a step at most,
    not a dataset, as responses are compared all with all.

    A record whose rewards are all equal, or with one response, has neither pair nor penalty. With target
    `negative_prompt` the penalty falls on the lowest reward among a record's negative-prompted responses, where that is
    lower than the record's best.

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
    lower, higher, pairs_of_record = _strict_pairs(layout)
    penalised = worst[differ] if target == "worst" else _lowest_negative(layout, order, best)
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


def by_response(values: Tensor, plan: LossPlan, reduction: Reduction, normaliser: Normaliser = "response") -> Tensor:
    """Sum or mean of per-token values over each response (`token_mean` of log-probabilities: NEAT Eq. 3 and 4).

    Args:
        values: (tokens,); half precision is added up in float32.
        normaliser: what a mean divides by.

    Returns:
        (responses,); 0 for a filler without a token.

    Raises:
        ValueError: `padded`, and the layout did not say how long the queries are.
    """
    if values.shape != plan.mask.shape:
        raise ValueError(f"{tuple(values.shape)} values for a mask of {tuple(plan.mask.shape)}")
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    # What stands outside the mask may be anything, NaN included: it is replaced, not multiplied by zero.
    sums = values.new_zeros(plan.length.shape).index_add(0, plan.response, torch.where(plan.mask, values, 0))
    if reduction == "token_sum":
        return sums
    return sums / (plan.length if normaliser == "response" else _padded(plan))


def _padded(plan: LossPlan) -> Tensor:
    if plan.padded is None:
        raise ValueError("the normaliser padded needs to know how many tokens each query has")
    return plan.padded


def sft(logps: Tensor, plan: LossPlan, reduction: Reduction, normaliser: Normaliser = "response") -> Component:
    """- log rho(y_best) of every record (NEAT Eq. 6: `token_sum`)."""
    return Component(-by_response(logps, plan, reduction, normaliser)[plan.best].sum(), len(plan.best))


def ranking(scores: Tensor, plan: LossPlan, reduction: PairReduction) -> Component:
    """max(0, p_lower - p_higher) over each record's strictly ordered pairs, their sum (NEAT Eq. 5) or their mean.

    Args:
        scores: (responses,) p, the length-normalised log-probabilities.
    """
    hinges = F.relu(scores[plan.lower] - scores[plan.higher])  # (pairs,)
    if reduction == "mean_pairs":
        hinges = hinges / plan.pairs_of_record
    return Component(hinges.sum(), plan.contrasts)


def penalty(
    logps: Tensor, plan: LossPlan, kind: Penalty, reduction: Reduction, reference: Tensor | None = None
) -> Component:
    """The term that makes the plan's target responses less likely when it is minimised.

    Args:
        logps: (tokens,)
        reference: (tokens,) the reference's log-probabilities of the same tokens; needed by `npo` alone.

    Raises:
        ValueError: `npo` without a reference.
    """
    match kind:
        case NoPenalty():
            return Component(logps.new_zeros(()), 0)
        case Likelihood():
            terms = by_response(logps, plan, reduction)
        case Unlikelihood():
            terms = by_response(unlikelihood(logps), plan, reduction)
        case NPO(inverse_temperature=b):
            if reference is None:
                raise ValueError("the npo penalty needs the reference's log-probabilities")
            ratios = by_response(logps, plan, reduction) - by_response(reference.detach(), plan, reduction)
            terms = -2 / b * F.logsigmoid(-b * ratios)
    return Component(terms[plan.target].sum(), len(plan.target))


def unlikelihood(logps: Tensor) -> Tensor:
    """- log(1 - rho) of every token; one surer than 1 - 1e-6 counts as that sure, and gives no gradient.

    >>> round(unlikelihood(torch.tensor(0.75).log()).exp().item(), 3)
    4.0
    """
    logps = logps.to(torch.promote_types(logps.dtype, torch.float32))
    return -torch.log(-torch.expm1(logps.clamp(max=SUREST)))


def objective(
    logps: Tensor, plan: LossPlan, settings: ObjectiveSettings, reference: Tensor | None = None
) -> Components:
    """The three terms over the records of a batch, unweighted.

    Args:
        logps: (tokens,) the policy's log-probabilities.
        plan: of the same tokens, on the same device, made for `settings.penalty.target`.
        reference: (tokens,) the reference's, where `settings.needs_reference`.
    """
    return Components(
        sft=sft(logps, plan, settings.reduction, settings.normaliser),
        ranking=ranking(by_response(logps, plan, "token_mean", settings.normaliser), plan, settings.ranking.reduction),
        penalty=penalty(logps, plan, settings.active_penalty, settings.reduction, reference),
    )


def total(components: Components, counts: TermCounts, settings: ObjectiveSettings) -> Tensor:
    """This batch's share of the step's loss: each term divided by the step's count of records, weighed, added.

    Args:
        counts: of the whole optimiser step, over all of its micro-batches and ranks.

    Returns:
        A scalar that hangs on the graph of the log-probabilities even where it is 0, for a batch of fillers. Over the
        step these add up to L.
    """
    loss = components.sft.sum / max(counts.sft, 1)
    # A weight of 0 leaves the term out: 0 times infinity would not.
    if settings.alpha:
        loss = loss + settings.alpha * components.ranking.sum / max(counts.ranking, 1)
    if settings.beta:
        loss = loss + settings.beta * components.penalty.sum / max(counts.penalty, 1)
    return loss


@torch.no_grad()
def diagnostics(logps: Tensor, plan: LossPlan) -> Diagnostics:
    """What to watch beside the loss, each as a sum and its count.

    Args:
        logps: (tokens,) the policy's log-probabilities.
    """
    scores = by_response(logps, plan, "token_mean")
    right = scores[plan.higher] > scores[plan.lower]
    return Diagnostics(
        best_logp=Component(scores[plan.top].sum(), plan.contrasts),
        worst_logp=Component(scores[plan.bottom].sum(), plan.contrasts),
        accuracy=Component(right.sum(dtype=scores.dtype), len(plan.lower)),
        negative_worst=Component(plan.negative_bottom.sum(dtype=scores.dtype), plan.contrasts),
    )
