"""Grow a dataset: sample responses to its queries, score them with its own reward model, append them as a round.

`expand` is the verb. It goes through all shards twice: first every shard is sampled and its candidates are staged, then
the policy is freed, the reward model is loaded, and every staged shard is scored and committed. So the two models never
need to fit together, either phase can run elsewhere (`--phase`), and a run that was killed goes on with the next shard.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

from neat_data.errors import InputError
from neat_data.expressions import explained, select
from neat_data.models.load import load_sampler
from neat_data.models.sampler import Sampler, SamplerSpec
from neat_data.progress import Silent, Watcher, say
from neat_data.rounds.finish import (
    GrowSummary,
    Scoring,
    finished_round,
    full_settings,
    load_settings,
    records_before,
    score_staged,
    take_up,
)
from neat_data.rounds.sampling import Draws, drawings, sampled
from neat_data.rounds.staging import Staging
from neat_data.scoring.engine import Engine
from neat_data.scoring.engines import opened
from neat_data.scoring.workers import Advance, Work
from neat_data.store.address import DatasetPath
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import Metadata, Settings
from neat_data.store.folder import DatasetFolder
from neat_data.store.location import locate
from neat_data.store.shard import read_shard

Phase = Literal["both", "sample", "score"]


@dataclass(frozen=True)
class ExpandRequest:
    """What `neat-data expand` was asked for.

    Attributes:
        dataset: its folder, or its URL.
        sampler: the policy; None only where `phase` is `score`.
        draws: what is sampled for each query.
        where: a SQL expression over the record; the queries of the others are passed over.
        limit: queries at most.
        phase: `sample` stages candidates, `score` scores those that were staged.
    """

    dataset: DatasetPath
    sampler: SamplerSpec | None
    draws: Draws
    scoring: Scoring = field(default_factory=Scoring)
    where: str | None = None
    limit: int | None = None
    phase: Phase = "both"

    def __post_init__(self) -> None:
        """Raises InputError where the policy is given an argument that it would pass over without a word."""
        if self.sampler is not None and "tree_attention" in self.sampler.model_args:
            raise InputError(
                "a policy that answers packs no trees; leave it out",
                field="model_args",
                value=f"tree_attention={self.sampler.model_args['tree_attention']}",
                advice="What scores has {reward_args}.",
            )


def expand(request: ExpandRequest, watch: Watcher | None = None) -> GrowSummary:
    """Append a round of sampled responses; the same call again goes on where an earlier one stopped.

    Raises:
        InputError: no finished dataset, bad models, prompts or expressions, another round that is not finished.
        RunError: out of memory, a server that is gone, a reward that is not finite, a full disk.
    """
    watch = watch or Silent()
    PreferenceDataset.open(request.dataset)  # before the folder is claimed, which would make one
    with (
        DatasetFolder.claim(request.dataset, watch.say) as folder,
        opened(request.scoring.engine, folder.place.workplace) as engine,
    ):
        folder.require_finished()
        if request.phase == "score":
            return score_staged(folder, request.scoring, engine, watch)
        return _expand(request, folder, engine, watch)


def _expand(request: ExpandRequest, folder: DatasetFolder, engine: Engine, watch: Watcher) -> GrowSummary:
    reward = None if request.phase == "sample" else load_settings(folder, request.scoring, engine, watch)
    watch.phase("loading the policy", None)
    assert request.sampler is not None
    sampler = engine.load(load_sampler, request.sampler)
    settings = _settings(request, sampler)
    round_settings = full_settings(settings, request.scoring.rules, reward)
    done = finished_round(folder, round_settings)
    if done is not None and not folder.lost(done.round):
        return GrowSummary(request.dataset, done.round, True, done.summary)
    say(watch, sampler.notes)
    staging = take_up(folder, "expand", settings, round_settings, lambda: _queries(request), done)
    _sample(request, engine, sampler, staging, watch)
    if reward is None:
        return GrowSummary(request.dataset, staging.round, False, {}, _staged(staging), engine.figures)
    return score_staged(folder, request.scoring, engine, watch)


def _settings(request: ExpandRequest, sampler: Sampler) -> Settings:
    """The settings that decide the candidates."""
    return {
        "policy": sampler.settings,
        **request.draws.to_dict(),
        "where": request.where,
        "limit": request.limit,
    }


def _queries(request: ExpandRequest) -> dict[int, list[str]]:
    """Ids of the first `limit` queries that `where` is true for, by number of the base shard."""
    dataset, place = PreferenceDataset.open(request.dataset), locate(request.dataset)
    wanted: Collection[str] | None = None
    if request.where is not None:
        with explained(request.where):
            chosen = select(dataset.scan_records(), request.where).select("query_id").collect()
        wanted = frozenset(chosen["query_id"])
    left = request.limit
    by_shard: dict[int, list[str]] = {}
    for number, entry in dataset.manifest.round(0).numbers().items():
        ids = read_shard(place.shard(entry))["query_id"].to_pylist()
        taken = [query for query in ids if wanted is None or query in wanted][:left]
        left = None if left is None else left - len(taken)
        if taken:
            by_shard[number] = taken
    if not by_shard:
        why = "it has no records" if request.where is None else f"where {request.where!r} is true for no record"
        raise InputError(f"{request.dataset}: nothing to sample: {why}.")
    return by_shard


@dataclass(frozen=True)
class _SampleWork:
    """Everything a worker needs to stage a shard's candidates; picklable."""

    root: DatasetPath
    staging: Staging
    draws: Draws
    spec: SamplerSpec

    def load(self, device: str) -> Sampler:
        """The policy on `device`."""
        return load_sampler(replace(self.spec, device=device))

    def with_model(self, model: Sampler) -> Work[None]:
        """The function that stages a shard with this sampler."""
        return lambda shard, advance: self.stage(shard, model, advance)

    def stage(self, shard: int, sampler: Sampler, advance: Advance) -> None:
        round = self.staging.round
        records = records_before(self.root, shard, round, self.staging.queries[shard])
        before = dict(sampler.usage)
        candidates, budget = sampled(drawings(records, self.draws, round), sampler, round, advance)
        metadata: Metadata = {"usage": {key: n - before.get(key, 0) for key, n in sampler.usage.items()}}
        if sampler.not_taken:
            metadata["not_taken"] = list(sampler.not_taken)
        if budget is not None:
            metadata["sampler_token_budget"] = budget
        self.staging.commit(shard, candidates, metadata)


def _sample(request: ExpandRequest, engine: Engine, sampler: Sampler, staging: Staging, watch: Watcher) -> None:
    """Stage every shard that is missing, then free the policy."""
    done = staging.done()
    missing = [number for number in staging.queries if number not in done]
    a_query = request.draws.a_query
    watch.phase("sampling", a_query * sum(map(len, staging.queries.values())))
    watch.advance(a_query * sum(len(staging.queries[number]) for number in done))
    work = _SampleWork(request.dataset, staging, request.draws, sampler.spec)
    engine.make(missing, work, sampler, watch, lambda _: None)


def _staged(staging: Staging) -> int:
    return sum(len(staging.candidates(number)[0]) for number in staging.queries)
