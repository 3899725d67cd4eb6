"""What these tests train on: scored datasets and a policy so small that steps are quick."""

from __future__ import annotations

from tests.support.random_models import other_reward, random_policy
from tests.support.training import forks, ragged, stored, tiny_policy, tiny_reward

__all__ = ["forks", "other_reward", "ragged", "random_policy", "stored", "tiny_policy", "tiny_reward"]
