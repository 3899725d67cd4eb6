"""Datasets of a few records, made by hand, and models of random weights."""

from __future__ import annotations

from tests.support.datasets import made_dataset, record_of
from tests.support.random_models import other_reward, plain_policy, random_policy, random_reward

__all__ = ["made_dataset", "other_reward", "plain_policy", "random_policy", "random_reward", "record_of"]
