"""What these tests train on: scored datasets and a policy so small that steps are quick."""

from __future__ import annotations

from tests.support.training import forks, ragged, random_policy, stored, tiny_policy, tiny_reward

__all__ = ["forks", "ragged", "random_policy", "stored", "tiny_policy", "tiny_reward"]
