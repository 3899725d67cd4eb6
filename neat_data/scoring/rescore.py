"""Score every response of a dataset with a further reward model: `scores/NAME` beside the dataset's own rewards.

The shard is the unit of work, as in `score`: one file of scores for each shard of each round, so the same call again
goes on where it stopped, and scores what later rounds added. Nothing in the dataset itself changes. The dataset is the
plan of a job array: `--shards 0-99` counts its shards through all rounds; what jobs made is entered by the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModel, RewardModelSpec
from neat_data.options.words import RescorePhase
from neat_data.progress import Silent, Watcher, say
from neat_data.scoring.engine import HERE, ClusterFigures, Engine, EngineSpec, cluster_figures
from neat_data.scoring.engines import opened
from neat_data.scoring.numbers import Numbers
from neat_data.scoring.request import Part
from neat_data.scoring.rescore_work import Job, RescoreWork
from neat_data.store.address import DatasetPath
from neat_data.store.atomic import locked, remove_leftovers
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder
from neat_data.store.manifest import Manifest, package_versions
from neat_data.store.scores.folder import ScoresFolder, begin_together
from neat_data.store.scores.format import ScoreShard, check_name, scores_name, shards_of
from neat_data.store.shard import ShardEntry


@dataclass(frozen=True)
class RescoreRequest:
    """What `neat-data rescore` was asked for.

    Attributes:
        dataset: the dataset's folder, or its URL.
        name: what the scores are called, a plain word.
        reward: the reward model.
        engine: where shards are scored.
        phase: `finish` enters what jobs made, and loads no model.
        shards: score these, counted through all rounds, and leave the rest to others; None is all of them.
    """

    dataset: DatasetPath
    name: str
    reward: RewardModelSpec
    engine: EngineSpec = HERE
    phase: RescorePhase = "all"
    shards: Numbers | None = None


@dataclass(frozen=True)
class RescoreSummary:
    """What came of it: responses with scores, those scored (or entered) just now, and those refused, by reason.

    `part` says what was done of a dataset of which others score the rest; `cluster` what Ray's workers did.
    """

    dataset: DatasetPath
    name: str
    responses: int
    scored_now: int
    refused: dict[str, int]
    part: Part | None = None
    cluster: ClusterFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        part = vars(self.part) if self.part else {}
        counts = {"responses": self.responses, "scored_now": self.scored_now, "refused": self.refused}
        return {"dataset": str(self.dataset), "name": self.name, **counts, **part, **cluster_figures(self.cluster)}


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
    if request.shards is not None:
        return _make_some(request, request.shards, watch)
    if request.phase == "finish":
        return _finish(request, watch)
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
        now = sum(entry.responses for _, _, entry in missing)
        return replace(_summary(request, scores.scores.shards, now), cluster=engine.figures)


def _summary(request: RescoreRequest, shards: Sequence[ScoreShard], scored_now: int) -> RescoreSummary:
    refused: Counter[str] = Counter()
    for shard in shards:
        refused.update(shard.refused)
    return RescoreSummary(
        dataset=request.dataset,
        name=request.name,
        responses=_responses(shards),
        scored_now=scored_now,
        refused=dict(sorted(refused.items())),
    )


def _responses(shards: Sequence[ScoreShard]) -> int:
    return sum(shard.entry.responses for shard in shards)


def _unfinished(manifest: Manifest) -> list[str]:
    rounds = [round.round for round in manifest.rounds if not round.complete]
    return [f"round {number} is not finished: what it has so far is scored" for number in rounds]


def _make_missing(
    scores: ScoresFolder,
    missing: list[Job],
    bases: dict[int, ShardEntry],
    request: RescoreRequest,
    engine: Engine,
    model: RewardModel,
    watch: Watcher,
) -> None:
    work = RescoreWork(request.dataset, request.name, missing, bases, scores.scores.identity, model.spec)
    watch.phase("scoring", sum(entry.rows for _, _, entry in missing))
    try:
        engine.make(range(len(missing)), work, model, watch, scores.record)
    finally:
        scores.enter()


def _make_some(request: RescoreRequest, numbers: Numbers, watch: Watcher) -> RescoreSummary:
    """Score the shards of these numbers that have no scores yet, beside jobs that score others.

    Raises:
        InputError: the dataset is at a URL or not finished, somebody writes the whole, scores of other settings.
    """
    out = _seen_by_all(request.dataset)
    with locked(out, shared=True):
        manifest = PreferenceDataset.open(out).manifest
        if not manifest.round(0).complete:
            raise InputError(f"{out}: the dataset itself is not finished. Run `neat-data score` again; it goes on.")
        jobs = shards_of(manifest)
        wanted = numbers.below(len(jobs))
        missing = [number for number in wanted if not (out / scores_name(request.name, *jobs[number][:2])).is_file()]
        part = Part(sum(entry.rows for _, _, entry in jobs), len(jobs), len(missing), len(wanted) - len(missing))
        if not missing:
            return replace(_summary(request, [], 0), part=part)
        with opened(request.engine, out) as engine:
            made = _made_together(request, out, manifest, missing, engine, watch)
            return replace(_summary(request, made, _responses(made)), part=part, cluster=engine.figures)


def _seen_by_all(dataset: DatasetPath) -> Path:
    if isinstance(dataset, Path):
        return dataset
    raise InputError(
        "jobs share a folder that all machines see, not a URL",
        field="dataset",
        value=dataset,
        advice="Give a folder; or {engine} ray, or one machine, which write to URLs.",
    )


def _made_together(
    request: RescoreRequest, out: Path, manifest: Manifest, missing: Sequence[int], engine: Engine, watch: Watcher
) -> list[ScoreShard]:
    watch.phase("loading the reward model", None)
    model = engine.load(load_reward_model, request.reward)
    say(watch, model.notes)
    begun = begin_together(out, request.name, {"reward_model": model.settings}, package_versions())
    jobs, bases = shards_of(manifest), manifest.round(0).numbers()
    work = RescoreWork(out, request.name, jobs, bases, begun.identity, model.spec)
    watch.phase("scoring", sum(jobs[number][2].rows for number in missing))
    made: list[ScoreShard] = []
    engine.make(missing, work, model, watch, made.append)
    return made


def _finish(request: RescoreRequest, watch: Watcher) -> RescoreSummary:
    """Enter what jobs made; no model is loaded.

    Raises:
        InputError: there are no scores of this name, or shards lack theirs.
    """
    with DatasetFolder.claim(request.dataset, watch.say) as folder:
        scores = ScoresFolder(folder.place, request.name, folder.manifest)
        entered = scores.take_up()
        missing = {job[:2] for job in scores.missing}
        if lacking := [number for number, job in enumerate(shards_of(folder.manifest)) if job[:2] in missing]:
            raise InputError(
                f"{request.dataset}: {len(lacking):,} shards have no scores called {request.name} yet "
                f"({Numbers.of(lacking).shortly}).",
                advice="Make them first: the command of the jobs, with their numbers in {shards}.",
            )
        remove_leftovers(folder.place.workplace)
        return _summary(request, scores.scores.shards, _responses(entered))
