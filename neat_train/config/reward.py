"""The settings of a reward model's loss. s is its score of a response, g the dataset's reward of it.

The functions are in `neat_train.losses.reward_model`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from neat_train.config.strict import Settings


class RewardSettings(Settings):
    """A reward model that learns from labels: a mean over the labels of a step.

    Where a response has no reward g, what is said of g leaves it out: the label alone decides.
    """

    lists: Literal["plackett-luce", "bradley-terry"] = "plackett-luce"
    """Of what people put in order: the likelihood of the whole order (Plackett 1975; Luce 1959), or the mean of
    - log sigmoid(s_better - s_worse) over its pairs (Bradley and Terry 1952; arXiv 2203.02155). Of a pair both are
    the same."""
    margin: float = Field(default=0.0, ge=0)
    """A better response is to lie this many times max(0, g_better - g_worse) above a worse one (arXiv 2307.09288)."""
    centre: float = Field(default=0.01, ge=0)
    """Weight of the square of twice the mean score of what a label puts in order, which keeps scores around 0 (arXiv
    2312.09244)."""
    soft: float = Field(default=0.0, ge=0, le=1)
    """How much of each pair's target is sigmoid(g_better - g_worse), and not the label."""
    regression: float = Field(default=0.0, ge=0)
    """Weight of the mean square of s - g: another reward model's scores are learnt with the labels."""

    @model_validator(mode="after")
    def _soft_pairs(self) -> RewardSettings:
        if self.soft and self.lists != "bradley-terry":
            raise ValueError("soft is a target of pairs: say reward.lists=bradley-terry")
        return self

    @property
    def needs_rewards(self) -> bool:
        """Whether the dataset's rewards have a part in it."""
        return bool(self.margin or self.soft or self.regression)
