"""Losses over pairs of a better and a worse response: each takes `Lists` and its settings, and gives (records,).

Every pair of two different rewards counts; a record that is to give one pair comes with two responses. Formulas and
sources stand with the settings, in `neat_train.config.ranking`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neat_train.config.ranking import DPO, DPOP, IPO, AlphaPO, Davidson, Hinge, SimPO
from neat_train.losses.lists import Lists, differences, over_pairs


def dpo(lists: Lists, settings: DPO) -> Tensor:
    """- log sigmoid(s_w - s_l), with label smoothing (arXiv 2305.18290, Eq. 7)."""
    margins, wrong = differences(settings.beta * lists.ratio), settings.label_smoothing
    losses = -(1 - wrong) * F.logsigmoid(margins) - wrong * F.logsigmoid(-margins)
    return over_pairs(losses, lists.strict, settings.reduction)


def ipo(lists: Lists, settings: IPO) -> Tensor:
    """(d - 1 / (2 beta))^2 (arXiv 2310.12036, Eq. 17), on log-ratios a token, as its authors ran it."""
    ratio = lists.ratio / lists.length.clamp(min=1)
    return over_pairs((differences(ratio) - 1 / (2 * settings.beta)) ** 2, lists.strict, settings.reduction)


def hinge(lists: Lists, settings: Hinge) -> Tensor:
    """max(0, 1 - (s_w - s_l)) (arXiv 2309.06657)."""
    return over_pairs(F.relu(1 - differences(settings.beta * lists.ratio)), lists.strict, settings.reduction)


def dpop(lists: Lists, settings: DPOP) -> Tensor:
    """DPO whose better response may not fall (arXiv 2402.13228)."""
    scores = settings.beta * lists.ratio
    margins = differences(scores) - settings.fall * F.relu(-scores)[:, :, None]
    return over_pairs(-F.logsigmoid(margins), lists.strict, settings.reduction)


def simpo(lists: Lists, settings: SimPO) -> Tensor:
    """- log sigmoid(beta (u_w - u_l) - gamma) (arXiv 2405.14734, Eq. 6)."""
    margins = settings.beta * differences(lists.mean) - settings.gamma
    return over_pairs(-F.logsigmoid(margins), lists.strict, settings.reduction)


def alphapo(lists: Lists, settings: AlphaPO) -> Tensor:
    """SimPO on (1 - exp(-alpha u)) / alpha (arXiv 2501.03884)."""
    alpha = settings.alpha
    shaped = -torch.expm1(-alpha * lists.mean) / alpha if alpha else lists.mean
    margins = settings.beta * differences(shaped) - settings.gamma
    return over_pairs(-F.logsigmoid(margins), lists.strict, settings.reduction)


def davidson(lists: Lists, settings: Davidson) -> Tensor:
    """The likelihood of orders and ties (arXiv 2409.17431; Davidson 1970)."""
    scores = settings.beta * lists.ratio
    first, second = torch.broadcast_tensors(scores[:, :, None], scores[:, None, :])
    tie = (first + second) / 2 + torch.tensor(2 * settings.ties, dtype=scores.dtype, device=scores.device).log()
    tied = differences(lists.reward) <= settings.margin  # where i is the better one
    outcome = torch.where(tied, tie, first)
    losses = torch.logsumexp(torch.stack([first, second, tie]), 0) - outcome
    return over_pairs(losses, lists.pairs, settings.reduction)
