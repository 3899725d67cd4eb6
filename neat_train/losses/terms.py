"""The three terms of NEAT, each a sum over records with its count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from neat_train.config.objective import (
    NPO,
    AnyPenalty,
    DPOPPenalty,
    Likelihood,
    NoPenalty,
    Normaliser,
    PairReduction,
    Reduction,
    SimNPO,
    Unlikelihood,
)
from neat_train.losses.plan import LossPlan

SUREST = -1e-6  # log-probabilities above it count as this one in log(1 - rho), which is -inf at rho = 1


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A sum, a scalar tensor, and of how many."""

    sum: Tensor
    count: int


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


def sft(
    logps: Tensor,
    plan: LossPlan,
    reduction: Reduction,
    normaliser: Normaliser = "response",
    per: Literal["record", "token"] = "record",
) -> Component:
    """- log rho(y_best) of every record (NEAT Eq. 6: `token_sum`), counted by records or by tokens."""
    if per == "token":
        best = by_response(logps, plan, "token_sum")[plan.best]
        return Component(-best.sum(), int(plan.length[plan.best].sum()))
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
    logps: Tensor, plan: LossPlan, kind: AnyPenalty, reduction: Reduction, reference: Tensor | None = None
) -> Component:
    """The term that makes the plan's target responses less likely when it is minimised.

    Args:
        logps: (tokens,)
        reference: (tokens,) the reference's log-probabilities of the same tokens; needed by `npo` and `dpop`.

    Raises:
        ValueError: one of these without a reference.
    """
    match kind:
        case NoPenalty():
            return Component(logps.new_zeros(()), 0)
        case Likelihood():
            terms = by_response(logps, plan, reduction)
        case Unlikelihood():
            terms = by_response(unlikelihood(logps), plan, reduction)
        case NPO(inverse_temperature=b):
            terms = -2 / b * F.logsigmoid(-b * _log_ratio(logps, plan, kind, reduction, reference))
        case SimNPO(inverse_temperature=b, gamma=gamma):
            terms = -2 / b * F.logsigmoid(-b * by_response(logps, plan, "token_mean") - gamma)
        case DPOPPenalty():
            terms = F.relu(-_log_ratio(logps, plan, kind, reduction, reference))
    return Component(terms[plan.target].sum(), len(plan.target))


def _log_ratio(
    logps: Tensor, plan: LossPlan, kind: NPO | DPOPPenalty, reduction: Reduction, reference: Tensor | None
) -> Tensor:
    if reference is None:
        raise ValueError(f"the {kind.kind} penalty needs the reference's log-probabilities")
    return by_response(logps, plan, reduction) - by_response(reference.detach(), plan, reduction)


def unlikelihood(logps: Tensor) -> Tensor:
    """- log(1 - rho) of every token; one surer than 1 - 1e-6 counts as that sure, and gives no gradient.

    >>> round(unlikelihood(torch.tensor(0.75).log()).exp().item(), 3)
    4.0
    """
    logps = logps.to(torch.promote_types(logps.dtype, torch.float32))
    return -torch.log(-torch.expm1(logps.clamp(max=SUREST)))
