"""A run of `fit --method reward`, from the data it was given to what it leaves behind but for card and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainingArguments

from neat_data.errors import InputError
from neat_data.progress import Watcher, say
from neat_data.record import Record
from neat_train.config.settings import FitSettings
from neat_train.data.record_source import Offline
from neat_train.data.records import Records
from neat_train.policy.policy import PolicySpec
from neat_train.reward_model.examples import RewardEncoder
from neat_train.reward_model.held_out import HeldOutLabels
from neat_train.reward_model.model import TrainedReward, load_reward_to_train
from neat_train.reward_model.trainer import RewardTrainer
from neat_train.run_folder import RunFolder


@dataclass(frozen=True, slots=True, eq=False)
class RewardRun:
    """A reward model that is loaded, and what it learns from.

    Attributes:
        train: records with labels.
        held_out: records that are not trained on.
    """

    settings: FitSettings
    args: TrainingArguments
    folder: RunFolder
    reward: TrainedReward
    train: Records
    held_out: Sequence[Record]
    watch: Watcher

    def trainer(self, callbacks: Sequence[TrainerCallback]) -> RewardTrainer:
        """What takes its steps."""
        settings, ranks = self.settings, self.folder.ranks
        assert settings.token_budget is not None
        measured = HeldOutLabels(
            self.held_out,
            self._encoder(),
            settings.reward,
            ranks,
            self.reward.choice.path,
            settings.token_budget,
            self.watch,
        )
        return RewardTrainer(
            self.reward,
            self.args,
            Offline(self.train, settings.records_per_step, settings.seed, ranks),
            len(self.train),
            settings.records_per_step,
            self._encoder(),
            settings.reward,
            settings.token_budget,
            self.watch,
            measured if settings.training["eval_strategy"] != "no" else None,
            callbacks,
        )

    def _encoder(self) -> RewardEncoder:
        return RewardEncoder(self.reward.template, self.settings.max_length, self.settings.max_response)


def load(spec: PolicySpec, settings: FitSettings, args: TrainingArguments, watch: Watcher) -> TrainedReward:
    """The reward model to train; errors as `load_reward_to_train`."""
    watch.phase("loading the reward model", None)
    half = {torch.bfloat16: args.bf16, torch.float16: args.fp16}
    dtype = next((dtype for dtype, computed in half.items() if computed), None)
    reward = load_reward_to_train(spec, settings.path, settings.max_length, dtype)
    say(watch, reward.notes)
    return reward


def require_rewards(path: str | Path, settings: FitSettings, records: Records) -> None:
    """Raise InputError where the loss goes by the dataset's rewards, and it has none."""
    if not settings.reward.needs_rewards:
        return
    if any(response.reward is not None for query in records.ids for response in records[query].responses):
        return
    raise InputError(
        f"{path}: reward.margin, soft and regression go by the dataset's rewards, and it has none\n"
        "`neat-data rescore` gives it some (and rank_by names them), or leave these settings out"
    )
