"""A batch's records as padded lists of responses, best first: what every loss in the place of the ranking term sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neat_train.config.ranking import PairReduction
from neat_train.losses.plan import LossPlan
from neat_train.losses.terms import by_response


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """n records of at most k responses, best first; what is padded is 0 and counts nowhere.

    Attributes:
        there: (n, k) bool, false where a record has fewer responses.
        reward: (n, k)
        total: (n, k) log-probability of the response, the sum over its tokens.
        mean: (n, k) the same a token.
        length: (n, k) tokens.
        reference: (n, k) what `total` is of the reference; None where nothing needs it.
    """

    there: Tensor
    reward: Tensor
    total: Tensor
    mean: Tensor
    length: Tensor
    reference: Tensor | None

    @property
    def ratio(self) -> Tensor:
        """log pi - log pi_ref of each response  # (n, k)

        Raises:
            ValueError: there is no reference.
        """
        if self.reference is None:
            raise ValueError("this loss needs the reference's log-probabilities")
        return self.total - self.reference

    @property
    def size(self) -> Tensor:
        """Responses of each record  # (n,)"""
        return self.there.sum(1)

    @property
    def pairs(self) -> Tensor:
        """Whether [i, j] are two responses of the record, the first of them better by its place  # (n, k, k) bool"""
        return (self.there[:, :, None] & self.there[:, None, :]).triu(1)

    @property
    def strict(self) -> Tensor:
        """Whether response i has a higher reward than j  # (n, k, k) bool"""
        return self.pairs & (self.reward[:, :, None] > self.reward[:, None, :])

    def mean_of(self, values: Tensor) -> Tensor:
        """The mean over each record's responses  # (n, k) -> (n,)"""
        return torch.where(self.there, values, 0).sum(1) / self.size


def lists_of(logps: Tensor, plan: LossPlan, reference: Tensor | None = None) -> Lists:
    """The records that the plan ranks.

    Args:
        logps: (tokens,) the policy's log-probabilities.
        reference: (tokens,) the reference's.
    """
    there, places = plan.lists >= 0, plan.lists.clamp(min=0)
    total = by_response(logps, plan, "token_sum")

    def listed(values: Tensor) -> Tensor:
        return torch.where(there, values[places], 0)

    return Lists(
        there=there,
        reward=listed(plan.reward.to(total.dtype)),
        total=listed(total),
        mean=listed(total / plan.length),
        length=listed(plan.length),
        reference=None if reference is None else listed(by_response(reference.detach(), plan, "token_sum")),
    )


def differences(scores: Tensor) -> Tensor:
    """[i, j] is the score of i less that of j  # (n, k) -> (n, k, k)"""
    return scores[:, :, None] - scores[:, None, :]


def over_pairs(values: Tensor, pairs: Tensor, reduction: PairReduction) -> Tensor:
    """The sum or the mean of the values of each record's pairs; 0 where it has none  # (n, k, k) -> (n,)"""
    sums = torch.where(pairs, values, 0).sum((1, 2))
    return sums / pairs.sum((1, 2)).clamp(min=1) if reduction == "mean_pairs" else sums
