"""Score every response of a dataset with a further reward model: `scores/NAME` beside the dataset's own rewards.

The shard is the unit of work, as in `score`: one file of scores for each shard of each round, so the same call again
goes on where it stopped, and scores what later rounds added. Nothing in the dataset itself changes.
"""

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
from neat_data.progress import Silent, Watcher
from neat_data.record import Message, Messages
from neat_data.scoring.assemble import computed_by
from neat_data.scoring.engine import HERE, ClusterFigures, Engine, EngineSpec, cluster_figures
from neat_data.scoring.engines import opened
from neat_data.scoring.workers import Advance, Work
from neat_data.store.address import DatasetPath
from neat_data.store.atomic import remove_leftovers
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import Settings
from neat_data.store.folder import DatasetFolder
from neat_data.store.location import locate
from neat_data.store.manifest import Manifest, package_versions
from neat_data.store.scores.folder import ScoresFolder, commit_scores, score_table
from neat_data.store.scores.format import ScoreShard, check_name
from neat_data.store.shard import ShardEntry, read_shard


@dataclass(frozen=True)
class RescoreRequest:
    """What `neat-data rescore` was asked for.

    Attributes:
        dataset: the dataset's folder, or its URL.
        name: what the scores are called, a plain word.
        reward: the reward model.
        engine: where shards are scored.
    """

    dataset: DatasetPath
    name: str
    reward: RewardModelSpec
    engine: EngineSpec = HERE


@dataclass(frozen=True)
class RescoreSummary:
    """What came of it: responses with scores, those scored just now, and those the model refused, by reason.

    `cluster` says what Ray's workers did.
    """

    dataset: DatasetPath
    name: str
    responses: int
    scored_now: int
    refused: dict[str, int]
    cluster: ClusterFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        counts = {"responses": self.responses, "scored_now": self.scored_now, "refused": self.refused}
        return {"dataset": str(self.dataset), "name": self.name, **counts, **cluster_figures(self.cluster)}


def rescore(request: RescoreRequest, watch: Watcher | None = None) -> RescoreSummary:
    """Score a dataset's responses; the same call again scores only what has no scores of this name yet.

    A response that the model refuses (too long, say) is stored without a score, with the reason.

    Raises:
        InputError: no such dataset, one that is not finished, a bad name or model, or scores of this name that were
            made with other settings.
        RunError: out of memory at the smallest budget, a score is not finite, the disk is full.
    """
    watch = watch or Silent()
    check_name(request.name)
    PreferenceDataset.open(request.dataset)  # a folder that is no dataset must not become one by being claimed
    with (
        DatasetFolder.claim(request.dataset, watch.say) as folder,
        opened(request.engine, folder.place.workplace) as engine,
    ):
        folder.require_finished()
        scores = ScoresFolder(folder.place, request.name, folder.manifest)
        watch.phase("loading the reward model", None)
        model = engine.load(load_reward_model, request.reward)
        scores.begin({"reward_model": model.settings}, versions=package_versions())
        for note in [*model.notes, *scores.notes, *_unfinished(folder.manifest)]:
            watch.say(note)
        missing = scores.missing
        _make_missing(scores, missing, folder.manifest.round(0).numbers(), request, engine, model, watch)
        remove_leftovers(folder.place.workplace)  # of workers that died
        return RescoreSummary(
            dataset=request.dataset,
            name=request.name,
            responses=sum(shard.entry.responses for shard in scores.scores.shards),
            scored_now=sum(entry.responses for _, _, entry in missing),
            refused=scores.scores.refused,
            cluster=engine.figures,
        )


def _unfinished(manifest: Manifest) -> list[str]:
    rounds = [round.round for round in manifest.rounds if not round.complete]
    return [f"round {number} is not finished: what it has so far is scored" for number in rounds]


Job = tuple[int, int, ShardEntry]  # round, number and entry of a shard


@dataclass(frozen=True)
class _Work:
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


def _make_missing(
    scores: ScoresFolder,
    missing: list[Job],
    bases: dict[int, ShardEntry],
    request: RescoreRequest,
    engine: Engine,
    model: RewardModel,
    watch: Watcher,
) -> None:
    identity = {"fingerprint": scores.scores.fingerprint, "settings": scores.scores.settings}
    work = _Work(request.dataset, request.name, missing, bases, identity, model.spec)
    watch.phase("scoring", sum(entry.rows for _, _, entry in missing))
    try:
        engine.make(range(len(missing)), work, model, watch, scores.record)
    finally:
        scores.enter()


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
