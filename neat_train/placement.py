"""Where the reward model and the sampler of a run lie, and whether everything fits."""

from __future__ import annotations

import torch

from neat_data.models.reward import RewardModel
from neat_data.store.dataset import PreferenceDataset
from neat_data.watch import Watcher
from neat_train.config import FitSettings
from neat_train.policy import PolicySpec
from neat_train.ranks import Ranks


def check_memory(
    settings: FitSettings, policy: PolicySpec, dataset: PreferenceDataset, ranks: Ranks, watch: Watcher
) -> None:
    """Print what the run will need in memory, and refuse what cannot fit, before anything is loaded.

    Raises:
        InputError: it does not fit; models that do not exist; settings that contradict each other.
    """
    raise NotImplementedError


def load_reward(settings: FitSettings, dataset: PreferenceDataset, device: torch.device, watch: Watcher) -> RewardModel:
    """The reward model of a run, loaded once and used by rounds and held-out measurements alike.

    Args:
        device: the policy's.

    Raises:
        InputError: it cannot be had, or is not the one that scored the dataset and `rounds.mix_rewards` is not said.
    """
    raise NotImplementedError
