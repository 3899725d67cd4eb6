"""Which sampler the rounds of a run use: the model in training itself, or vLLM beside it."""

from __future__ import annotations

from pathlib import Path

from neat_train.config.settings import FitSettings
from neat_train.distributed import Ranks
from neat_train.policy.policy import Policy
from neat_train.rounds.live_sampler import Live, LiveModel


def live(policy: Policy, settings: FitSettings, folder: Path, ranks: Ranks) -> Live:
    """What samples in the rounds of a run.

    Args:
        folder: where a back end of its own finds the adapter.

    Raises:
        InputError: vLLM is not installed, or cannot take this policy.
    """
    if settings.rounds.sampler == "vllm":
        from neat_train.rounds.live_vllm import LiveVllm

        return LiveVllm(policy, settings, folder, ranks)
    return LiveModel(policy, settings)
