"""How the scores of one shard are made: responses in, a committed file of scores out. Any process may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neat_data.errors import RunError
from neat_data.models.load import load_reward_model
from neat_data.models.out_of_memory import score_tasks
from neat_data.models.reward_model import RewardModel, RewardModelSpec, Scored, Task
from neat_data.record import Message, Messages
from neat_data.scoring.assemble import computed_by
from neat_data.scoring.workers import Advance, Work
from neat_data.store.address import DatasetPath
from neat_data.store.documents import Settings
from neat_data.store.location import locate
from neat_data.store.scores.folder import commit_scores, score_table
from neat_data.store.scores.format import ScoreShard
from neat_data.store.shard import ShardEntry, read_shard

Job = tuple[int, int, ShardEntry]  # round, number and entry of a shard


@dataclass(frozen=True)
class RescoreWork:
    """Everything a worker needs to make and commit the scores of a shard; picklable."""

    root: DatasetPath
    name: str
    jobs: list[Job]
    bases: dict[int, ShardEntry]
    identity: Settings
    spec: RewardModelSpec

    def load(self, device: str) -> RewardModel:
        """The reward model on `device`."""
        return load_reward_model(replace(self.spec, device=device))

    def with_model(self, model: RewardModel) -> Work[ScoreShard]:
        """The function that makes the scores of one shard with this model."""
        return lambda job, advance: self.commit(self.jobs[job], model, advance)

    def commit(self, job: Job, model: RewardModel, advance: Advance) -> ScoreShard:
        round, number, entry = job
        place = locate(self.root)
        table = read_shard(place.shard(entry))
        tasks = list(_tasks(table, read_shard(place.shard(self.bases[number])) if round else table))
        scored, budget = score_tasks(tasks, model, advance)
        rewards, refused = _joined(scored)
        ids = table["responses"].combine_chunks().flatten().field("response_id")
        _check_finite(ids, rewards, refused, model.settings)
        metadata = {**self.identity, "queries_cut": sum(answer.turns_cut > 0 for answer in scored)}
        if budget is not None:
            metadata["token_budget"] = budget
        if model.not_taken:
            metadata["reward_not_taken"] = sorted(model.not_taken)
        made = score_table(ids, rewards, refused)
        return commit_scores(self.root, self.name, (round, number, entry.sha256), made, metadata)


def _tasks(table: pa.Table, base: pa.Table) -> Iterator[Task]:
    """One task a row of a shard; the messages of a later round's rows stand in the base shard of the same number."""
    rows = pc.index_in(table["query_id"].combine_chunks(), value_set=base["query_id"].combine_chunks())
    queries = base["messages"].combine_chunks().take(rows).to_pylist()
    for messages, responses in zip(queries, table["responses"].to_pylist(), strict=True):
        yield Task(_messages(messages), tuple(response["text"] for response in responses))


def _messages(turns: list[dict[str, str]]) -> Messages:
    return tuple(Message(**turn) for turn in turns)


def _joined(scored: Sequence[Scored]) -> tuple[np.ndarray, list[str | None]]:
    """The rewards (NaN where refused) and the reasons of all tasks, one after the other."""
    refused = [reason for answer in scored for reason in answer.refused]
    rewards = [np.nan if reward is None else reward for answer in scored for reward in answer.rewards]
    return np.asarray(rewards, dtype=np.float32), refused


def _check_finite(
    ids: pa.Array, rewards: np.ndarray, refused: Sequence[str | None], settings: Mapping[str, Any]
) -> None:
    """Raise RunError naming the first response whose reward is NaN or infinite."""
    for index in np.flatnonzero(~np.isfinite(rewards)).tolist():
        if refused[index] is None:
            raise RunError(
                f"the reward model gave {rewards[index]} for response {ids[index]}{computed_by(settings)}.",
                advice="Try another {dtype} or {path}; `neat-data show` shows its record.",
            )
