"""Online rounds: sample with the policy in training, score, keep, train on it (NEAT Algorithm 1)."""

from __future__ import annotations

from pathlib import Path

from neat_data.models.reward import RewardModel
from neat_data.record import Record
from neat_data.watch import Watcher
from neat_train.config import FitSettings
from neat_train.policy import Policy
from neat_train.ranks import Ranks
from neat_train.records import Records


class OnlineRounds:
    """See `neat_train.source.RecordSource`."""

    def step(self, step: int) -> list[Record]:
        """This rank's records of a step with the responses that training uses; a block that begins is sampled."""
        raise NotImplementedError

    def saved(self, step: int) -> None:
        """Fold what was sampled before `step` into one round of the dataset; again and again with the same end."""
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        """What the last block measured; empty where there was none since the last call."""
        raise NotImplementedError


def online_rounds(
    settings: FitSettings,
    records: Records,
    policy: Policy,
    reward: RewardModel,
    ranks: Ranks,
    run: Path,
    fingerprint: str,
    watch: Watcher,
    steps: int | None = None,
) -> OnlineRounds:
    """The rounds of a run.

    Args:
        records: those that are trained on, of the dataset that the run began with.
        reward: as `placement.load_reward` gives it.
        run: the run's folder.
        fingerprint: of the run, for its dataset's settings.
        steps: optimiser steps of the whole run.

    Raises:
        InputError: bad prompts or rules, a reward model that is not the dataset's, a dataset that cannot be added to.
    """
    raise NotImplementedError
