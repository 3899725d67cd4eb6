"""`eval`: what training did to a policy, measured on queries that it was not trained on.

The folder it writes:

    eval.json        every figure (`format` says the version); written last
    answers.arrow    one row an answer, `ANSWERS` and a column `reward/MODEL` and `chosen/MODEL` for each reward model
    records.arrow    one row a chosen response: query_id, nll (sum over tokens), tokens
    responses/DECODING.arrow    the same answers as records (`neat_data.record.SCHEMA`)
    alpaca_eval.json, arena_hard.jsonl    the greedy answers in the formats of AlpacaEval and Arena-Hard
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from neat_data.progress import Silent, Watcher, say
from neat_data.scoring.engine import ClusterFigures, Engine, cluster_figures
from neat_data.scoring.engines import opened
from neat_data.store.documents import Settings
from neat_data.store.manifest import package_versions
from neat_train.evaluation import figures
from neat_train.evaluation.folder import ANSWERS_FILE, FORMAT, EvalFolder, read_eval
from neat_train.evaluation.likelihood import ResponseLikelihood
from neat_train.evaluation.measure import QueryShard, rewarded, together
from neat_train.evaluation.outcome import (
    answer_rows,
    asked_queries,
    chosen_perplexity,
    left_out_of,
    measured_from,
    write_files,
)
from neat_train.evaluation.plan import EvalPlan, default_out, plan_evaluation, require_answerable, settings_of
from neat_train.evaluation.policy import Policy
from neat_train.evaluation.request import EvalRequest
from neat_train.evaluation.result import EvalResult
from neat_train.evaluation.stages import answering, check, comparing, run, scoring

__all__ = ["EvalRequest", "EvalSummary", "evaluate", "read_answers", "read_eval"]


@dataclass(frozen=True)
class EvalSummary:
    """What came of it.

    `already`: the figures were there before; `result` is what eval.json holds; `cluster` says what Ray's workers did.
    """

    out: Path
    already: bool
    result: EvalResult
    cluster: ClusterFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"out": str(self.out), "already": self.already, **self.result.to_dict(), **cluster_figures(self.cluster)}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.result._repr_html_()


def evaluate(request: EvalRequest, watch: Watcher | None = None) -> EvalSummary:
    """Answer, score and measure; the same call again goes on where an earlier one stopped.

    Raises:
        InputError: no such run, model, queries or prompt, or a folder that holds something else.
        RunError: out of memory at the smallest budget, a reward server that fails, the disk is full.
    """
    watch = watch or Silent()
    plan = plan_evaluation(request, watch)
    out = request.out or default_out(request, plan)
    with EvalFolder.claim(out, plan.files) as folder, opened(request.engine, folder.parts.path) as engine:
        with closing(engine.load(Policy, plan.policy)) as policy:
            settings = settings_of(request, plan, policy.settings)
        folder.begin(settings, request.queries)
        already = folder.finished
        if not already:
            require_answerable(request, plan)
            folder.finish(_measured(request, plan, settings, folder, engine, watch))
        return EvalSummary(out, already, folder.result(), engine.figures)


def read_answers(folder: str | Path) -> pl.DataFrame:
    """The answers of an evaluation, one row each, in the columns of `ANSWERS` and those of its reward models.

    Raises:
        InputError: no finished evaluation lies there.
    """
    read_eval(Path(folder))
    with (Path(folder) / ANSWERS_FILE).open("rb") as file:  # polars takes brackets in a path for a pattern
        return pl.read_ipc(file)


def _measured(
    request: EvalRequest, plan: EvalPlan, settings: Settings, folder: EvalFolder, engine: Engine, watch: Watcher
) -> EvalResult:
    """Every stage, then every file but the last."""
    queries = plan.queries.queries
    shards = QueryShard(folder.parts, "", queries, plan.decodings, request.seed, request.max_new_tokens).cut(
        request.shard_rows
    )
    _run(plan, shards, engine, watch)
    samples = {decoding.name: [s for shard in shards for s in shard.samples(decoding)] for decoding in plan.decodings}
    likelihood = together(shard.likelihood() for shard in shards)
    say(watch, likelihood.notes)
    kl = _kl(plan, shards, likelihood.samples)
    scored = {name: rewarded(shard.rewarded(reward) for shard in shards) for name, reward in plan.rewards.items()}
    rewards = {name: each.rewards for name, each in scored.items()}
    table = answer_rows(plan, samples, kl, rewards)
    write_files(plan, request.seed, folder.path, table, samples, likelihood.chosen, rewards)
    return EvalResult(
        format=FORMAT,
        subject=plan.subject.name,
        start=measured_from(plan),
        queries=asked_queries(plan.queries),
        prompt=request.prompt,
        seed=request.seed,
        settings=settings,
        reward_models={name: each.settings for name, each in scored.items()},
        left_out=left_out_of(samples, likelihood.cut, scored),
        perplexity=chosen_perplexity(likelihood.chosen, likelihood.cut),
        decodings=figures.decodings(table, list(rewards)),
        versions=package_versions(),
    )


def _run(plan: EvalPlan, shards: Sequence[QueryShard], engine: Engine, watch: Watcher) -> None:
    """Have every part made, after a look at the reward models."""
    rewards = {name: scoring(shards, reward) for name, reward in plan.rewards.items()}
    for name, stage in rewards.items():
        if (settings := check(stage, engine, watch)) is not None:
            say(watch, plan.rewards[name].strange(settings))
    run(answering(shards, plan.policy), engine, watch)
    if plan.began_from is not None:
        run(comparing(shards, plan.began_from, plan.subject.max_length), engine, watch)
    for stage in rewards.values():
        run(stage, engine, watch)


def _kl(plan: EvalPlan, shards: Sequence[QueryShard], own: Sequence[ResponseLikelihood | None]) -> list[float | None]:
    """Log-probability under the subject less that under its start, of every sample."""
    if plan.began_from is None:
        return [None] * len(own)
    theirs = [likelihood for shard in shards for likelihood in shard.at_start()]
    return [None if a is None or b is None else a.logp - b.logp for a, b in zip(own, theirs, strict=True)]
