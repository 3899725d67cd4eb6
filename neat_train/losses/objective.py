"""The objective: the three terms of a batch, their weighted sum over an optimiser step, and what to watch beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neat_train.config.objective import ObjectiveSettings
from neat_train.config.ranking import RankingSettings
from neat_train.losses.lists import lists_of
from neat_train.losses.own import Own
from neat_train.losses.plan import LossPlan, TermCounts
from neat_train.losses.registry import RANKINGS
from neat_train.losses.terms import Component, by_response, penalty, ranking, sft


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
        best_ratio, worst_ratio: log pi - log pi_ref of whole responses, best and worst, over the same records; of none
            where the loss does without a reference.
        ratio_accuracy: pairs in which the higher reward gained more on the reference, of all pairs.
    """

    best_logp: Component
    worst_logp: Component
    accuracy: Component
    negative_worst: Component
    best_ratio: Component
    worst_ratio: Component
    ratio_accuracy: Component


def objective(
    logps: Tensor,
    plan: LossPlan,
    settings: ObjectiveSettings,
    reference: Tensor | None = None,
    own: Own | None = None,
) -> Components:
    """The three terms over the records of a batch, unweighted.

    Args:
        logps: (tokens,) the policy's log-probabilities.
        plan: of the same tokens, on the same device, made for these settings (`plan_for`).
        reference: (tokens,) the reference's, where `settings.needs_reference`; of other responses than
            `plan.referenced` names it may be anything finite.
        own: the user's loss, where the settings' ranking is of that kind.
    """
    return Components(
        sft=sft(logps, plan, settings.reduction, settings.normaliser, settings.sft.per),
        ranking=_ranking(logps, plan, settings, reference, own),
        penalty=penalty(logps, plan, settings.active_penalty, settings.reduction, reference),
    )


def _ranking(
    logps: Tensor, plan: LossPlan, settings: ObjectiveSettings, reference: Tensor | None, own: Own | None
) -> Component:
    kind = settings.active_ranking
    if isinstance(kind, RankingSettings):
        return ranking(by_response(logps, plan, "token_mean", settings.normaliser), plan, kind.reduction)
    lists = lists_of(logps, plan, reference if kind.needs_reference else None)
    losses = RANKINGS[type(kind)](lists, kind) if own is None else own(lists)  # (records,)
    return Component(losses.sum(), len(losses))


def total(components: Components, counts: TermCounts, settings: ObjectiveSettings) -> Tensor:
    """This batch's share of the step's loss: each term divided by the step's count, weighed, added.

    Args:
        counts: `LossPlan.counted` of the whole optimiser step, over all of its micro-batches and ranks.

    Returns:
        A scalar that hangs on the graph of the log-probabilities even where it is 0, for a batch of fillers. Over the
        step these add up to L.
    """
    weighed = (
        (settings.sft.weight, components.sft, counts.sft),
        (settings.alpha, components.ranking, counts.ranking),
        (settings.beta, components.penalty, counts.penalty),
    )
    # A weight of 0 leaves the term out: 0 times infinity would not.
    terms = [weight * term.sum / max(count, 1) for weight, term, count in weighed if weight]
    return sum(terms[1:], terms[0])


@torch.no_grad()
def diagnostics(logps: Tensor, plan: LossPlan, reference: Tensor | None = None) -> Diagnostics:
    """What to watch beside the loss, each as a sum and its count.

    Args:
        logps: (tokens,) the policy's log-probabilities.
        reference: (tokens,) the reference's, where those of all ranked responses were computed.
    """
    scores = by_response(logps, plan, "token_mean")
    right = scores[plan.higher] > scores[plan.lower]
    return Diagnostics(
        best_logp=Component(scores[plan.top].sum(), plan.contrasts),
        worst_logp=Component(scores[plan.bottom].sum(), plan.contrasts),
        accuracy=Component(right.sum(dtype=scores.dtype), len(plan.lower)),
        negative_worst=Component(plan.negative_bottom.sum(dtype=scores.dtype), plan.contrasts),
        **_against(logps, plan, reference),
    )


def _against(logps: Tensor, plan: LossPlan, reference: Tensor | None) -> dict[str, Component]:
    if reference is None:
        none = Component(logps.new_zeros(()), 0)
        return dict.fromkeys(("best_ratio", "worst_ratio", "ratio_accuracy"), none)
    ratio = by_response(logps - reference, plan, "token_sum")
    right = ratio[plan.higher] > ratio[plan.lower]
    return {
        "best_ratio": Component(ratio[plan.top].sum(), plan.contrasts),
        "worst_ratio": Component(ratio[plan.bottom].sum(), plan.contrasts),
        "ratio_accuracy": Component(right.sum(dtype=ratio.dtype), len(plan.lower)),
    }
