"""The losses that can stand in the place of NEAT's ranking, by their settings.

A new one is a class of settings in `config.ranking` (its kind, its numbers, its source), a function of `Lists` in the
family's file, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from neat_train.config import ranking as settings
from neat_train.losses import listwise, pairs, rewards
from neat_train.losses.lists import Lists

RANKINGS: Mapping[type[settings.Ranking], Callable[[Lists, Any], Tensor]] = MappingProxyType(
    {
        settings.DPO: pairs.dpo,
        settings.IPO: pairs.ipo,
        settings.Hinge: pairs.hinge,
        settings.DPOP: pairs.dpop,
        settings.SimPO: pairs.simpo,
        settings.AlphaPO: pairs.alphapo,
        settings.Davidson: pairs.davidson,
        settings.ListDPO: listwise.list_dpo,
        settings.InfoNCA: listwise.infonca,
        settings.NCA: listwise.nca,
        settings.PlackettLuce: listwise.plackett_luce,
        settings.D2O: listwise.d2o,
        settings.RLOO: rewards.rloo,
        settings.GRPO: rewards.grpo,
        settings.REBEL: rewards.rebel,
    }
)
