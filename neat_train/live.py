"""The policy in training as a sampler."""

from __future__ import annotations

from neat_data.models.sampler import Sampler
from neat_train.config import FitSettings
from neat_train.policy import Policy


def live_sampler(policy: Policy, settings: FitSettings) -> Sampler:
    """A sampler around the model in training: what it gives is what the policy says now; nothing of it is changed.

    Its window is `settings.max_length`, as far as the policy's own reaches, so that a query is cut as in training.
    """
    raise NotImplementedError
