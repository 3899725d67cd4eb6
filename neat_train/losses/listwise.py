"""Losses over a record's whole list: each takes `Lists` and its settings, and gives (records,).

Formulas and sources stand with the settings, in `neat_train.config.ranking`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from neat_train.config.ranking import D2O, NCA, InfoNCA, ListDPO, PlackettLuce
from neat_train.losses.lists import Lists, differences, over_pairs


def list_dpo(lists: Lists, settings: ListDPO) -> Tensor:
    """w log(1 + exp(s_j - s_i)) over pairs with r_i > r_j (LiPO, arXiv 2402.01878)."""
    scores = settings.beta * lists.ratio
    losses = F.softplus(-differences(scores))
    if settings.weights == "lambda":
        losses = losses * lambda_weights(lists, scores.detach())
    return over_pairs(losses, lists.strict, settings.reduction)


def lambda_weights(lists: Lists, scores: Tensor) -> Tensor:
    """What swapping i and j in the order of the scores would change in DCG (arXiv 2402.01878)  # (n, k, k)

    LiPO has labels from 0 to 1; here these are the record's rewards, its lowest 0 and its highest 1.
    """
    lowest = torch.where(lists.there, lists.reward, math.inf).amin(1, keepdim=True)
    highest = torch.where(lists.there, lists.reward, -math.inf).amax(1, keepdim=True)
    gain = 2 ** torch.where(lists.there, (lists.reward - lowest) / (highest - lowest), 0)
    above = (scores[:, None, :] > scores[:, :, None]) & lists.there[:, None, :]
    earlier = (scores[:, None, :] == scores[:, :, None]) & lists.there[:, None, :]
    rank = 1 + above.sum(2) + earlier.tril(-1).sum(2)  # of equal scores the better response stands first
    return differences(gain).abs() * differences(1 / torch.log1p(rank.to(scores.dtype))).abs()


def infonca(lists: Lists, settings: InfoNCA) -> Tensor:
    """- sum q log softmax(s) (arXiv 2402.05369)."""
    logits = torch.where(lists.there, settings.beta * lists.ratio, -math.inf)
    likelihood = torch.where(lists.there, torch.log_softmax(logits, 1), 0)
    return -(_soft_labels(lists, settings.temperature) * likelihood).sum(1)


def nca(lists: Lists, settings: NCA) -> Tensor:
    """- sum (q log sigmoid(s) + log sigmoid(-s) / k) (arXiv 2402.05369)."""
    scores = settings.beta * lists.ratio
    likely = (_soft_labels(lists, settings.temperature) * F.logsigmoid(scores)).sum(1)
    return -likely - lists.mean_of(F.logsigmoid(-scores))


def plackett_luce(lists: Lists, settings: PlackettLuce) -> Tensor:
    """Each response against itself and all that are worse (arXiv 2305.18290, A.3)."""
    scores = settings.beta * lists.ratio  # (n, k)
    own = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device) & lists.there[:, :, None]
    rivals = torch.where(lists.strict | own, scores[:, None, :], -math.inf)
    losses = torch.logsumexp(torch.where(lists.there[:, :, None], rivals, 0), 2) - scores
    return torch.where(lists.there, losses, 0).sum(1)


def d2o(lists: Lists, settings: D2O) -> Tensor:
    """The others' mean against the worst (arXiv 2403.03419, with one reference for both sides)."""
    ratio, last = lists.ratio, lists.size - 1
    worst = ratio.gather(1, last[:, None])[:, 0]
    others = (torch.where(lists.there, ratio, 0).sum(1) - worst) / last
    return -F.logsigmoid(settings.beta * others - settings.alpha * worst)


def _soft_labels(lists: Lists, temperature: float) -> Tensor:
    """softmax(r / temperature) over each record  # (n, k)"""
    return torch.softmax(torch.where(lists.there, lists.reward / temperature, -math.inf), 1)
