"""The stages of an evaluation: one model each, with which an engine makes parts of every shard that lacks them.

One model is in a process's memory at a time: the subject, then the policy that it began from, then one reward model
after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from neat_data.models.reward_model import RewardModelSpec
from neat_data.progress import Watcher
from neat_data.scoring.engine import Engine
from neat_data.scoring.workers import Advance, Work
from neat_train.evaluation.measure import AT_START, LIKELIHOOD, QueryShard
from neat_train.evaluation.policy import Policy, PolicySpec
from neat_train.evaluation.reward_models import NamedReward


@dataclass(frozen=True)
class Stage:
    """What is made with one model; a `ShardWork` for engines.

    Attributes:
        name: for people.
        open: loads the model of a spec.
        kinds: of the parts that it makes of each shard.
        make: makes them, unless they are there.
    """

    name: str
    shards: Sequence[QueryShard]
    spec: PolicySpec | RewardModelSpec
    open: Callable[[Any], Any]
    kinds: Sequence[str]
    make: Callable[[QueryShard, Any, Advance], None]

    def load(self, device: str) -> Any:
        """The model, on this device."""
        return self.open(replace(self.spec, device=device))

    def with_model(self, model: Any) -> Work[None]:
        """The function that makes the parts of one shard with this model."""
        return lambda shard, advance: self.make(self.shards[shard], model, advance)

    @property
    def missing(self) -> list[int]:
        """Numbers of the shards that lack a part."""
        return [number for number, shard in enumerate(self.shards) if not shard.has(self.kinds)]


def answering(shards: Sequence[QueryShard], subject: PolicySpec) -> Stage:
    """The subject answers, and says how likely its answers and the chosen responses are."""
    kinds = [*(decoding.part for decoding in shards[0].decodings), LIKELIHOOD]
    return Stage("answering", shards, subject, Policy, kinds, QueryShard.answer)


def comparing(shards: Sequence[QueryShard], start: PolicySpec, max_length: int) -> Stage:
    """The policy that the subject began from says how likely its answers are; `max_length`: the subject's window."""
    make = partial(QueryShard.compare, max_length=max_length)
    return Stage("log-probabilities at the start", shards, start, Policy, [AT_START], make)


def scoring(shards: Sequence[QueryShard], reward: NamedReward) -> Stage:
    """A reward model scores."""
    make = partial(QueryShard.score, reward=reward)
    return Stage(f"scoring by {reward.name}", shards, reward.spec, reward.load, [reward.part], make)


def run(stage: Stage, engine: Engine, watch: Watcher) -> None:
    """Make what is missing."""
    missing = stage.missing
    if not missing:
        return
    watch.phase("loading the model", None)
    model = engine.load(stage.open, stage.spec)
    rows = [len(shard.queries) * len(stage.kinds) for shard in stage.shards]
    watch.phase(stage.name, sum(rows))
    watch.advance(sum(rows) - sum(rows[number] for number in missing))
    engine.make(missing, stage, model, watch, lambda _: None)


def check(stage: Stage, engine: Engine, watch: Watcher) -> dict[str, Any] | None:
    """Load a stage's model and free it again, so that its faults show before hours of others' work.

    Returns:
        The model's settings; None where the stage needs it no more.
    """
    if not stage.missing:
        return None
    watch.phase("loading the reward model", None)
    model = engine.load(stage.open, stage.spec)
    model.close()
    return model.settings
