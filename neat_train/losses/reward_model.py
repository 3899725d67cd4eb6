"""The loss of a reward model over labels: pure functions of scores. Sources stand with `config.reward.RewardSettings`.

Sums over labels, so that micro-batches, accumulation and ranks change nothing: the caller divides by the labels of the
whole optimiser step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from neat_train.config.reward import RewardSettings
from neat_train.losses.lists import differences


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What people said of the responses of a batch, as indices of these.

    Attributes:
        orders: (orders, k) int64, the responses that a label puts in order, best first; -1 behind the last of a
            shorter one.
        accepted, rejected: (n,) int64, responses of single verdicts.
        given: (responses,) float32, the dataset's rewards; nan where it has none.
    """

    orders: Tensor
    accepted: Tensor
    rejected: Tensor
    given: Tensor

    @property
    def count(self) -> int:
        """How many labels there are."""
        return len(self.orders) + len(self.accepted) + len(self.rejected)

    def to(self, device: torch.device | str) -> Labels:
        """The same with its tensors on `device`."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def loss_of(scores: Tensor, labels: Labels, settings: RewardSettings) -> Tensor:
    """The sum over the labels  # (responses,) -> ()

    It hangs on the graph of the scores even where there is no label.
    """
    verdicts = F.softplus(-scores[labels.accepted]).sum() + F.softplus(scores[labels.rejected]).sum()
    return scores.sum() * 0 + verdicts + _of_orders(scores, labels, settings).sum()


def _of_orders(scores: Tensor, labels: Labels, settings: RewardSettings) -> Tensor:
    """The loss of each label that puts responses in order  # (orders,)

    Where the dataset has no reward of a response, the label alone decides.
    """
    there, places = labels.orders >= 0, labels.orders.clamp(min=0)
    listed, given = scores[places], labels.given[places].to(scores.dtype)  # (orders, k)
    known, given = there & ~given.isnan(), given.nan_to_num()
    both = known[:, :, None] & known[:, None, :]  # (orders, k, k)
    margins = settings.margin * both * F.relu(differences(given))
    if settings.lists == "plackett-luce":
        losses = plackett_luce(listed, there, margins)
    else:
        losses = bradley_terry(listed, there, margins, settings.soft * both * torch.sigmoid(-differences(given)))
    size = there.sum(1)
    mean = torch.where(there, listed, 0).sum(1) / size
    off = torch.where(known, listed - given, 0).square().sum(1) / known.sum(1).clamp(min=1)
    return losses + settings.centre * (2 * mean).square() + settings.regression * off


def plackett_luce(scores: Tensor, there: Tensor, margins: Tensor) -> Tensor:
    """- sum over i of log(e^s_i / sum over i and what is worse of e^(s_j + margin_ij))  # (n, k) -> (n,)"""
    worse = there[:, None, :] & torch.ones_like(margins, dtype=torch.bool).triu()  # (n, k, k); its own place with it
    rivals = torch.where(worse, scores[:, None, :] + margins, -math.inf)
    losses = torch.logsumexp(torch.where(there[:, :, None], rivals, 0), 2) - scores
    return torch.where(there, losses, 0).sum(1)


def bradley_terry(scores: Tensor, there: Tensor, margins: Tensor, doubt: Tensor) -> Tensor:
    """The mean over pairs of - (1 - doubt) log sigmoid(d) - doubt log sigmoid(-d), d = s_i - s_j - margin_ij

    Args:
        scores: (n, k) best first.
        there: (n, k) bool.
        margins, doubt: (n, k, k)

    Returns:
        (n,)
    """
    pairs = (there[:, :, None] & there[:, None, :]).triu(1)
    apart = differences(scores) - margins
    losses = -(1 - doubt) * F.logsigmoid(apart) - doubt * F.logsigmoid(-apart)
    return torch.where(pairs, losses, 0).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
