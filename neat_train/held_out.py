"""What a policy is worth on queries that it is never trained on: perplexity, and the rewards of fresh answers to them.

`held_out_split` says which queries these are, `HeldOut.measure` looks at a policy without leaving a trace in it, and
`Measures` makes a transformers Trainer evaluate in this way, so that the best model and early stopping work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from neat_data.models.reward import RewardModel
from neat_data.models.sampler import Sampler
from neat_data.record import Record
from neat_data.watch import Silent, Watcher
from neat_train import batches
from neat_train.config import HeldOutSettings
from neat_train.examples import Encoder
from neat_train.ranks import Ranks


def held_out_split(ids: Collection[str], share: float) -> tuple[list[str], list[str]]:
    """Ids to train on and ids to hold out, each in the order given."""
    raise NotImplementedError


@dataclass(slots=True, eq=False)
class HeldOut:
    """The held-out queries, and what it takes to measure a policy on them; every method is collective over the ranks.

    Attributes:
        records: all held-out records, the same on every rank.
        encoder: of the policy; best one of its own, since it counts what it meets.
        sampler_factory: gives the policy as it is now.
        reward: gives the loaded reward model; None measures perplexity alone.
        run: the folder that samples.jsonl is written to.
        path, token_budget: how responses are run through the policy.
        max_new_tokens: of an answer.
        seed: of the answers; the same at every step, and best in every run, so that curves can be compared.
    """

    records: Sequence[Record]
    encoder: Encoder
    settings: HeldOutSettings
    sampler_factory: Callable[[], Sampler]
    reward: Callable[[], RewardModel] | None
    ranks: Ranks
    run: Path
    path: batches.Path = "batches"
    token_budget: int = 4_096
    max_new_tokens: int = 128
    seed: int = 0
    watch: Watcher = Silent()

    def measure(self, module: nn.Module, step: int) -> dict[str, float]:
        """Figures over all ranks' queries: `perplexity`, `reward`, `reward_low`, `reward_high`, `length`, `finished`."""
        raise NotImplementedError


class Measures:
    """For a class that also inherits from transformers.Trainer, in front of it: `evaluate` measures `self.held_out`."""

    held_out: HeldOut | None = None
