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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from neat_data.models.sampler import Sample
from neat_data.progress import Silent, Watcher
from neat_data.store.manifest import package_versions
from neat_train.evaluation import figures
from neat_train.evaluation.folder import ANSWERS_FILE, FORMAT, EvalFolder, read_eval
from neat_train.evaluation.likelihood import ResponseLikelihood
from neat_train.evaluation.measure import CHOSEN, EvaluationParts
from neat_train.evaluation.outcome import (
    answer_rows,
    asked_queries,
    chosen_perplexity,
    left_out_of,
    measured_from,
    write_files,
)
from neat_train.evaluation.plan import EvalPlan, default_out, plan_evaluation, require_answerable
from neat_train.evaluation.request import EvalRequest
from neat_train.evaluation.result import EvalResult

__all__ = ["EvalRequest", "EvalSummary", "evaluate", "read_answers", "read_eval"]


@dataclass(frozen=True)
class EvalSummary:
    """What came of it. `already`: the figures were there before; `result` is what eval.json holds."""

    out: Path
    already: bool
    result: EvalResult

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"out": str(self.out), "already": self.already, **self.result.to_dict()}

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
    with EvalFolder.claim(out, plan.settings, request.queries, plan.files) as folder:
        already = folder.finished
        if not already:
            require_answerable(request, plan)
            folder.finish(_measured(request, plan, folder, watch))
        return EvalSummary(out, already, folder.result())


def read_answers(folder: str | Path) -> pl.DataFrame:
    """The answers of an evaluation, one row each, in the columns of `ANSWERS` and those of its reward models.

    Raises:
        InputError: no finished evaluation lies there.
    """
    read_eval(Path(folder))
    with (Path(folder) / ANSWERS_FILE).open("rb") as file:  # polars takes brackets in a path for a pattern
        return pl.read_ipc(file)


def _measured(request: EvalRequest, plan: EvalPlan, folder: EvalFolder, watch: Watcher) -> EvalResult:
    """Every step, then every file but the last."""
    queries = plan.queries.queries
    steps = EvaluationParts(folder, queries, request.seed, request.max_new_tokens, watch)
    for reward in plan.rewards.values():
        steps.check(reward)
    samples = {decoding.name: steps.samples(plan.subject, decoding) for decoding in plan.decodings}
    chosen, own, cut = steps.chosen_and(plan.subject, plan.decodings[1], samples["sampled"])
    plan.subject.close()
    kl = _kl(steps, plan, samples["sampled"], own)
    texts = [
        {
            **{name: each[index].text for name, each in samples.items() if each[index].refused is None},
            **({} if query.chosen is None else {CHOSEN: query.chosen}),
        }
        for index, query in enumerate(queries)
    ]
    scored = {name: steps.rewards(reward, texts) for name, reward in plan.rewards.items()}
    rewards = {name: each.rewards for name, each in scored.items()}
    table = answer_rows(plan, samples, kl, rewards)
    write_files(plan, request.seed, folder.path, table, samples, chosen, rewards)
    return EvalResult(
        format=FORMAT,
        subject=plan.subject.name,
        start=measured_from(plan),
        queries=asked_queries(plan.queries),
        prompt=request.prompt,
        seed=request.seed,
        settings=plan.settings,
        reward_models={name: each.settings for name, each in scored.items()},
        left_out=left_out_of(samples, cut, scored),
        perplexity=chosen_perplexity(chosen, cut),
        decodings=figures.decodings(table, list(rewards)),
        versions=package_versions(),
    )


def _kl(
    steps: EvaluationParts, plan: EvalPlan, samples: Sequence[Sample], own: Sequence[ResponseLikelihood | None]
) -> list[float | None]:
    """Log-probability under the subject less that under its start, of every sample."""
    if plan.start is None:
        return [None] * len(samples)
    theirs = steps.likelihood(plan.start, plan.subject, plan.decodings[1], samples)
    plan.start.close()
    return [None if a is None or b is None else a.logp - b.logp for a, b in zip(own, theirs, strict=True)]
