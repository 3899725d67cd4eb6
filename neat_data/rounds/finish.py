"""Staged candidates -> a finished round: what every way of growing a dataset shares.

A round begins with `take_up`, which gives the staging of that round; the verb fills it; `score_staged` loads the reward
model, commits every staged shard with its rewards, and finishes the round.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from neat_data.errors import InputError, RunError
from neat_data.models.load import load_reward_model
from neat_data.models.out_of_memory import score_tasks
from neat_data.models.reward_model import RewardModel, RewardModelSpec
from neat_data.progress import Watcher, say
from neat_data.record import Record, from_table, to_table
from neat_data.report.card import write_card
from neat_data.rounds.candidates import Candidate, Rules, sift
from neat_data.rounds.outcomes import Outcome, joined, outcomes, tallies, tasks, total, waiting
from neat_data.rounds.staging import FOLDER, Staging
from neat_data.scoring.assemble import check_finite
from neat_data.scoring.dataset_reward import completed, remember, require_same, require_same_files, spec_of
from neat_data.scoring.engine import HERE, ClusterFigures, Engine, EngineSpec, cluster_figures
from neat_data.scoring.shard_work import settings_not_taken
from neat_data.scoring.workers import Advance, Work
from neat_data.store import manifest as manifests
from neat_data.store.address import DatasetPath
from neat_data.store.commit import commit_shard
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import RoundIdentity, RoundSummary, Settings, ShardMetadata
from neat_data.store.folder import DatasetFolder
from neat_data.store.location import locate
from neat_data.store.manifest import Round, package_versions
from neat_data.store.shard import ShardEntry, read_shard, shard_metadata


@dataclass(frozen=True)
class Scoring:
    """How the candidates of a round become its responses.

    Attributes:
        reward: the reward model; None is the dataset's own, found again.
        device: of the dataset's own.
        mix: whether another reward model than the dataset's own may score.
        engine: where shards are sampled and scored.
    """

    rules: Rules = field(default_factory=Rules)
    reward: RewardModelSpec | None = None
    device: str = "auto"
    mix: bool = False
    engine: EngineSpec = HERE


@dataclass(frozen=True)
class GrowSummary:
    """What came of it. `already`: the round was complete before. `staged`: candidates that wait for `--phase score`.

    `cluster` says what Ray's workers did.
    """

    dataset: DatasetPath
    round: int
    already: bool
    counts: RoundSummary
    staged: int | None = None
    cluster: ClusterFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        prompts = {name: tally.figures() for name, tally in total([self.counts.get("prompts", {})]).items()}
        state = {"dataset": str(self.dataset), "round": self.round, "already": self.already, "staged": self.staged}
        return {**state, **self.counts, "prompts": prompts, **cluster_figures(self.cluster)}


def full_settings(settings: Settings, rules: Rules, reward: Settings | None) -> Settings:
    """The settings of a round; without those of scoring where they are not known yet."""
    return settings if reward is None else {**settings, "rules": asdict(rules), "reward_model": reward}


def finished_round(folder: DatasetFolder, settings: Settings) -> Round | None:
    """The complete round that has these settings, and perhaps others beside them; shards of it may have been lost."""
    for entry in folder.manifest.rounds:
        own = {key: entry.settings.get(key) for key in settings}
        if entry.round and entry.complete and manifests.fingerprint_of(own) == manifests.fingerprint_of(settings):
            # Killed right behind `finish`; what is staged of lost shards is still wanted.
            if folder.manifest.newest.complete and folder.place.files(FOLDER) and not folder.lost(entry.round):
                write_card(folder)
                folder.place.remove(FOLDER)
            return entry
    return None


def take_up(
    folder: DatasetFolder,
    kind: str,
    settings: Settings,
    round_settings: Settings,
    queries: Callable[[], dict[int, list[str]]],
    finished: Round | None,
) -> Staging:
    """The staging of the round that has these settings: the one that lies there, or a new one.

    Args:
        queries: chooses them, by number of the base shard.
        finished: the round where it was complete before: its lost shards are made anew.

    Raises:
        InputError: another round is not finished.
    """
    if (staging := Staging.found(folder.path)) is not None:
        return staging.require(kind, settings)
    if finished is not None:
        lost = folder.lost(finished.round)
        left = {number: ids for number, ids in queries().items() if number in lost}
        return Staging.begin(folder.path, finished.round, kind, settings, left)
    if not folder.manifest.newest.complete:  # its candidates were lost; they can be made again from equal settings
        folder.begin_round(kind, round_settings, versions=package_versions())
    return Staging.begin(folder.path, folder.next_round, kind, settings, queries())


def records_before(root: DatasetPath, shard: int, round: int, queries: Collection[str]) -> list[Record]:
    """The records of some queries of a base shard as they were before `round`, responses that people dropped included.

    The queries' order is the shard's.
    """
    wanted, place = frozenset(queries), locate(root)
    rounds = [
        entry
        for entry in PreferenceDataset.open(root).manifest.rounds
        if entry.round < round and shard in entry.numbers()
    ]
    base, *added = (from_table(read_shard(place.shard(entry.numbers()[shard]))) for entry in rounds)
    by_id = {record.query_id: record for record in base if record.query_id in wanted}
    for record in (record for rows in added for record in rows if record.query_id in wanted):
        old = by_id[record.query_id]
        by_id[record.query_id] = replace(old, responses=(*old.responses, *record.responses))
    return list(by_id.values())


def judged(
    candidates: Sequence[Candidate],
    records: Mapping[str, Record],
    rules: Rules,
    model: RewardModel,
    advance: Advance,
    gone: Collection[str] = (),
) -> tuple[list[Outcome], int | None]:
    """Sift candidates, score them against their plain queries, and hold them against the user's rule.

    Args:
        records: of their queries, with the responses that these have already.
        advance: called with (queries done, tokens run).
        gone: ids of further responses that may not come again.

    Returns:
        What became of each, and the token budget that scoring took where it is not the model's own.

    Raises:
        RunError: out of memory with a small budget still, or a reward that is not finite.
    """
    known = {query: {*gone, *(r.response_id for r in record.responses)} for query, record in records.items()}
    reasons = sift(candidates, known, rules)
    groups = waiting(candidates, reasons, records)
    scored, budget = score_tasks(tasks(groups, candidates), model, advance)
    added = [replace(g.record, responses=tuple(candidates[i].response for i in g.indices)) for g in groups]
    check_finite(added, scored, model.settings)
    advance(len({c.query_id for c in candidates}) - len(groups), 0)
    return outcomes(candidates, reasons, groups, scored, rules), budget


@dataclass(frozen=True)
class _ScoreWork:
    """Everything a worker needs to score and commit a staged shard; picklable."""

    root: DatasetPath
    staging: Staging
    rules: Rules
    spec: RewardModelSpec
    identity: RoundIdentity
    compression: str | None

    def load(self, device: str) -> RewardModel:
        """The reward model on `device`."""
        return load_reward_model(replace(self.spec, device=device))

    def with_model(self, model: RewardModel) -> Work[ShardEntry]:
        """The function that scores and commits a shard with this model."""
        return lambda shard, advance: self.commit(shard, model, advance)

    def commit(self, shard: int, model: RewardModel, advance: Advance) -> ShardEntry:
        candidates, metadata = self.staging.candidates(shard)
        round, queries = self.staging.round, {c.query_id for c in candidates}
        records = {record.query_id: record for record in records_before(self.root, shard, round, queries)}
        outcomes, budget = judged(candidates, records, self.rules, model, advance)
        rows = joined(candidates, outcomes, list(dict.fromkeys(c.query_id for c in candidates)))
        metadata["prompts"] = {
            name: t.to_dict() for name, t in tallies(candidates, outcomes, records, self.rules).items()
        }
        if budget is not None:
            metadata["token_budget"] = budget
        if model.not_taken:
            metadata["reward_not_taken"] = sorted(model.not_taken)
        rejects = metadata.pop("rejects", [])
        own = cast(ShardMetadata, {**self.identity, **metadata})
        return commit_shard(self.root, round, shard, to_table(rows), rejects, own, self.compression)


def score_staged(folder: DatasetFolder, scoring: Scoring, engine: Engine, watch: Watcher) -> GrowSummary:
    """Score what is staged and finish its round.

    Raises:
        InputError: nothing is staged, or not all of it.
    """
    staging = Staging.found(folder.path)
    if staging is None or staging.done() != set(staging.queries):
        lacking = "no samples wait to be scored" if staging is None else "sampling is not finished"
        raise InputError(
            f"{folder.path}: {lacking}.", advice="Run `neat-data expand` with {phase} sample, or without {phase}."
        )
    model = load_own(folder, scoring, engine, watch)
    say(watch, model.notes)
    settings = full_settings(staging.settings, scoring.rules, model.settings)
    round = folder.begin_round(staging.kind, settings, versions=package_versions())
    say(watch, folder.notes)
    begun = folder.manifest.round(round)
    identity: RoundIdentity = {"kind": begun.kind, "fingerprint": begun.fingerprint, "settings": begun.settings}
    compression = folder.settings.get("compression")
    work = _ScoreWork(folder.path, staging, scoring.rules, model.spec, identity, compression)
    done = folder.done(round)
    missing = [number for number in staging.queries if number not in done]
    watch.phase("scoring", sum(map(len, staging.queries.values())))
    watch.advance(sum(len(queries) for number, queries in staging.queries.items() if number in done))
    engine.make(missing, work, model, watch, lambda entry: folder.record(round, entry))
    folder.finish(round, _counts(folder, round))
    write_card(folder)
    staging.remove()
    return GrowSummary(folder.path, round, False, folder.summary(round), cluster=engine.figures)


def reward_spec(folder: DatasetFolder, scoring: Scoring) -> RewardModelSpec:
    """What scores the new responses: what was asked for, with the lengths of the dataset's own, or its own."""
    own = folder.settings["reward_model"]
    if scoring.reward is not None:
        return completed(scoring.reward, own, another=scoring.mix)
    return spec_of(folder.path, own, scoring.device)


def load_own(folder: DatasetFolder, scoring: Scoring, engine: Engine, watch: Watcher) -> RewardModel:
    """The reward model of a round.

    Raises:
        InputError: it cannot be had, does not fit into memory, or is not the dataset's own.
    """
    watch.phase("loading the reward model", None)
    own, spec = folder.settings["reward_model"], reward_spec(folder, scoring)
    if scoring.reward is None or not scoring.mix:
        require_same_files(own, spec, folder.path)
    model = engine.load(_load_fitting, spec)
    if not scoring.mix:
        require_same(own, model.settings, folder.path)
    remember(model.spec, model.settings)
    return model


def _load_fitting(spec: RewardModelSpec) -> RewardModel:
    """The reward model, where there is memory for it."""
    from neat_data.models.memory import check, estimate

    check([estimate(spec)], spec.device)
    return load_reward_model(spec)


def load_settings(folder: DatasetFolder, scoring: Scoring, engine: Engine, watch: Watcher) -> Settings:
    """What the reward model says of itself; asked before hours of sampling, and freed again for the policy."""
    model = load_own(folder, scoring, engine, watch)
    model.close()
    return model.settings


def _counts(folder: DatasetFolder, round: int) -> RoundSummary:
    """What the round's summary says beyond the counts that the store makes itself.

    Raises:
        RunError: a candidate was lost on the way.
    """
    shards = [shard_metadata(folder.place.shard(entry)) for entry in folder.entries(round)]
    tallies = total(shard["prompts"] for shard in shards)
    for name, tally in tallies.items():
        if tally.asked != tally.kept + tally.dropped.total():
            raise RunError(
                f"{folder.path}: of {tally.asked} responses under {name}, {tally.kept} joined and "
                f"{tally.dropped.total()} were dropped. This is a mistake of this program; please report it."
            )
    usage = {key: sum(shard["usage"][key] for shard in shards) for key in (shards[0]["usage"] if shards else ())}
    counts: RoundSummary = {
        "asked": sum(tally.asked for tally in tallies.values()),
        "prompts": {name: tally.to_dict() for name, tally in tallies.items()},
        "usage": usage,
    }
    # The settings say what was wished for: what the servers were not asked with stands beside them.
    if not_taken := sorted({name for shard in shards for name in shard.get("not_taken", ())}):
        counts["not_taken"] = not_taken
    if reward_not_taken := settings_not_taken(shards):
        counts["reward_not_taken"] = reward_not_taken
    return counts
