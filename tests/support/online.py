"""Online rounds without a trainer: a loop whose steps change the adapter as the records say, with checkpoints."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from neat_data.cli import app
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModel, RewardModelSpec
from neat_data.progress import Silent
from neat_data.record import Record
from neat_train.config.settings import FitSettings, LoraSettings
from neat_train.data.records import Records
from neat_train.distributed import Ranks
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train
from neat_train.rounds.online import OnlineRounds, online_rounds
from tests.support.random_models import random_model

QUESTIONS = (
    "How do I boil an egg?",
    "Tell me a joke.",
    "Can you help me steal a car?",
    "What is rain?",
    "Who are you?",
)


def policy_folder() -> str:
    return str(random_model("tiny-policy"))


def reward_folder() -> str:
    return str(random_model("tiny-reward"))


def scored_dataset(folder: Path, *options: str) -> Path:
    """Five records in three shards, each with an answer that people preferred to another."""
    rows = [{"prompt": q, "chosen": "I can help you with that.", "rejected": "No."} for q in QUESTIONS]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["score", folder / "rows.jsonl", "--reward-model", reward_folder(), "--out", folder / "d"]
    app([*map(str, command), "--shard-rows", "2", "--device", "cpu", "--quiet", *options], standalone_mode=False)
    return folder / "d"


def settings_of(**changes: Any) -> FitSettings:
    """Two records a step, samples of six tokens under both prompts; `rounds` are laid over that."""
    rounds = {"prompts": "neat", "max_new_tokens": 6, "drop": [], **changes.pop("rounds", {})}
    fixed = {
        "records_per_step": 2,
        "max_length": 256,
        "max_response": 32,
        "token_budget": 2048,
        "training": {"seed": 0},
    }
    return FitSettings.model_validate({**fixed, "rounds": rounds, **changes})


@cache
def _loaded() -> tuple[Policy, dict[str, torch.Tensor], RewardModel]:
    """The two models, an adapter fresh from its seed, and a copy of that."""
    policy = load_policy_to_train(PolicySpec(policy_folder(), False, LoraSettings(r=4), device="cpu"))
    fresh = {name: weight.detach().clone() for name, weight in trained(policy).items()}
    return policy, fresh, load_reward_model(RewardModelSpec(reward_folder(), device="cpu"))


class Heard(Silent):
    """A watcher that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@dataclass
class Run:
    """A run folder with everything loaded; `train` goes on from its newest checkpoint.

    Attributes:
        begun: where the records are read, if not from `dataset`.
        rounds: of the dataset that were there when the run began; None: all.
    """

    dataset: Path
    folder: Path
    settings: FitSettings
    policy: Policy
    reward: RewardModel
    ranks: Ranks = field(default_factory=Ranks)
    watch: Heard = field(default_factory=Heard)
    begun: Path | None = None
    rounds: int | None = None
    seen: dict[int, list[Record]] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Path, folder: Path, ranks: Ranks | None = None, **changes: Any) -> Run:
        """A run that has not begun; all runs of a process train one policy, so one follows the other."""
        policy, fresh, reward = _loaded()
        put(policy, fresh)
        return cls(dataset, folder, settings_of(**changes), policy, reward, ranks or Ranks())

    def source(self) -> OnlineRounds:
        """A fresh source of records, as a new process would make it."""
        self.folder.mkdir(exist_ok=True)
        records = Records.open(str(self.begun or self.dataset), rounds=self.rounds)
        return online_rounds(
            self.settings,
            replace(records, dataset=replace(records.dataset, path=str(self.dataset))),
            self.policy,
            self.reward,
            self.ranks,
            self.folder,
            "f" * 64,
            self.watch,
        )

    def train(self, steps: int, save: int) -> OnlineRounds:
        """Up to so many steps, with a checkpoint every `save` steps."""
        source = self.source()
        start = self._restore()
        if start:
            source.saved(start)
        for step in range(start, steps):
            self.seen[step] = source.step(step)
            nudge(self.policy, [record for share in self.ranks.gather(self.seen[step]) for record in share])
            if (step + 1) % save == 0:
                self._checkpoint(step + 1)
                source.saved(step + 1)
        return source

    def _checkpoint(self, step: int) -> None:
        if self.ranks.main:
            unfinished = self.folder / "unfinished"
            save_file({name: weight.detach().contiguous() for name, weight in trained(self.policy).items()}, unfinished)
            unfinished.rename(self.folder / f"checkpoint-{step:04d}.safetensors")
        self.ranks.barrier()

    def _restore(self) -> int:
        """The newest checkpoint's step, its weights restored; 0 without one."""
        saved = sorted(self.folder.glob("checkpoint-*.safetensors"))
        if not saved:
            return 0
        put(self.policy, load_file(saved[-1]))
        return int(saved[-1].stem.removeprefix("checkpoint-"))


def trained(policy: Policy) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained."""
    return {name: weight for name, weight in policy.model.named_parameters() if weight.requires_grad}


def put(policy: Policy, weights: dict[str, torch.Tensor]) -> None:
    """Give the adapter these weights."""
    own = trained(policy)
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)


def nudge(policy: Policy, records: list[Record]) -> None:
    """Change the adapter by noise that is a function of everything that can be seen of the records."""
    content = json.dumps(sorted((record.to_dict() for record in records), key=lambda record: record["query_id"]))
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") >> 1)
    with torch.no_grad():
        for weight in trained(policy).values():
            weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
