"""Losses that use how far apart rewards are: each takes `Lists` and its settings, and gives (records,).

Formulas and sources stand with the settings, in `neat_train.config.ranking`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neat_train.config.ranking import GRPO, REBEL, RLOO
from neat_train.losses.lists import Lists, differences, over_pairs

STEADY = 1e-4  # added to a group's standard deviation


def rloo(lists: Lists, settings: RLOO) -> Tensor:
    """- mean of A log pi, A = r - mean of the others' r (arXiv 2402.14740)."""
    size = lists.size[:, None]
    others = (lists.reward.sum(1, keepdim=True) - lists.reward) / (size - 1)
    return -lists.mean_of(_weighed(lists.reward - others, settings.negative_weight) * lists.total)


def grpo(lists: Lists, settings: GRPO) -> Tensor:
    """- mean of A u, A = (r - mean) / (standard deviation + 1e-4) (arXiv 2402.03300, at ratio 1, without KL)."""
    off = torch.where(lists.there, lists.reward - lists.mean_of(lists.reward)[:, None], 0)
    deviation = (off.square().sum(1) / (lists.size - 1)).sqrt()[:, None]  # of a sample, as TRL's
    return -lists.mean_of(_weighed(off / (deviation + STEADY), settings.negative_weight) * lists.mean)


def rebel(lists: Lists, settings: REBEL) -> Tensor:
    """(d / eta - (r_i - r_j))^2 (arXiv 2404.16767)."""
    off = differences(lists.ratio) / settings.eta - differences(lists.reward)
    return over_pairs(off.square(), lists.pairs, settings.reduction)


def _weighed(advantages: Tensor, negative_weight: float) -> Tensor:
    return torch.where(advantages < 0, negative_weight * advantages, advantages)
