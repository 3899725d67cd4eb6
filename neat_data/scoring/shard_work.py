"""How one shard of `score` is made: planned records in, a committed shard out. Any process that sees the folder may."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neat_data.models.load import load_reward_model
from neat_data.models.out_of_memory import score_tasks
from neat_data.models.reward_model import RewardModel, RewardModelSpec, Task
from neat_data.record import Record, canonical_json, to_table
from neat_data.scoring.assemble import assemble, check_finite, given
from neat_data.scoring.plan import Plan
from neat_data.scoring.workers import Advance, Work
from neat_data.sources.row import reject_line
from neat_data.store.address import DatasetPath
from neat_data.store.commit import commit_shard
from neat_data.store.documents import Settings, ShardMetadata
from neat_data.store.shard import ShardEntry
from neat_data.thought import thought_of

GIVEN: Settings = {"model": "given"}
"""In the place of a reward model's settings where the source's own rewards are kept."""


def settings_of(rows: Settings, compression: str | None, model: Settings | None) -> Settings:
    """The settings of a dataset.

    Args:
        rows: what decides its rows.
        compression: of its shards.
        model: what its reward model says of itself; None where there is none.
    """
    made_with = {**rows, "compression": compression, "reward_model": GIVEN if model is None else model}
    return dict(json.loads(canonical_json(made_with)))


@dataclass(frozen=True)
class ScoreWork:
    """Everything a worker needs to make and commit a shard; picklable.

    Attributes:
        out: the dataset's folder, or its URL.
        fingerprint, settings: of the dataset.
        spec: of the reward model; None keeps the rewards that the source carries.
    """

    out: DatasetPath
    plan: Plan
    fingerprint: str
    settings: Settings
    spec: RewardModelSpec | None

    def load(self, device: str) -> RewardModel:
        """The reward model on `device`."""
        assert self.spec is not None
        return load_reward_model(replace(self.spec, device=device))

    def with_model(self, model: RewardModel | None) -> Work[ShardEntry]:
        """The function that makes a shard with this model."""
        return lambda shard, advance: self.commit(shard, model, advance)

    def commit(self, shard: int, model: RewardModel | None, advance: Advance) -> ShardEntry:
        """Score the records of a shard and commit it; `advance` hears of (source rows, tokens) done."""
        records = self.plan.records(shard)
        tasks = [Task(record.messages, tuple(r.text for r in record.responses)) for record in records]
        if model is None:
            scored, budget = [given(record) for record in records], None
            advance(len(tasks), 0)
        else:
            scored, budget = score_tasks(tasks, model, advance)
        check_finite(records, scored, model.settings if model else {})
        assembled = [assemble(record, answer) for record, answer in zip(records, scored, strict=True)]
        stored = [record for record, _ in assembled if record is not None]
        rejects = [reject_line(reject) for reject in self.plan.rejects(shard)]
        rejects += [reject for _, refused in assembled for reject in refused]
        metadata: ShardMetadata = {
            "kind": "score",
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "source_rows": self.plan.source_rows(shard),
            "queries_cut": sum(answer.turns_cut > 0 for answer in scored),
        }
        if budget is not None:
            metadata["token_budget"] = budget
        if model is not None and model.not_taken:
            metadata["reward_not_taken"] = sorted(model.not_taken)
        if thoughts := _thoughts(records):
            metadata["thoughts"] = thoughts
        # Rows without a model or a token count still move the bar; repeats folded in elsewhere are made up for here.
        advance(self.plan.source_rows(shard) - len(tasks), 0)
        return commit_shard(self.out, 0, shard, to_table(stored), rejects, metadata, self.settings["compression"])


def settings_not_taken(shards: Iterable[Mapping[str, Any]]) -> list[str]:
    """The settings that the server of these shards' reward model refused: it was asked without."""
    return sorted({name for shard in shards for name in shard.get("reward_not_taken", ())})


def _thoughts(records: Sequence[Record]) -> dict[str, int]:
    """How many responses think, and how many of these without an end; {} where none does."""
    parted = [thought_of(response.text) for record in records for response in record.responses]
    thoughts = [thought for thought in parted if thought is not None]
    if not thoughts:
        return {}
    return {"responses": len(thoughts), "unended": sum(not thought.ended for thought in thoughts)}
