"""What of an evaluation is kept: the rows of its tables, what was left out and how often, its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neat_data.models.sampler import Sample, Sampling
from neat_data.rounds.candidates import Rules
from neat_train.evaluation import figures
from neat_train.evaluation.files import write_benchmarks, write_responses, write_table
from neat_train.evaluation.folder import ANSWERS, ANSWERS_FILE, RECORDS_FILE
from neat_train.evaluation.likelihood import ResponseLikelihood
from neat_train.evaluation.measure import CHOSEN, Rewarded
from neat_train.evaluation.plan import EvalPlan, changed_since
from neat_train.evaluation.queries import Queries
from neat_train.evaluation.result import AskedQueries, LeftOut, MeasuredFrom, Perplexity
from neat_train.evaluation.subject import asked


def answer_rows(
    plan: EvalPlan,
    samples: Mapping[str, Sequence[Sample]],
    kl: Sequence[float | None],
    rewards: Mapping[str, Sequence[dict[str, float | None]]],
) -> pl.DataFrame:
    """The rows of answers.arrow."""
    rows = [
        {
            "decoding": decoding.name,
            "query_id": query.query_id,
            "source": query.group,
            "query": query.messages[-1].content,
            "prompt": decoding.prompt.name,
            **_described(samples[decoding.name][index], plan.rules),
            "kl": kl[index] if decoding.name == "sampled" else None,
            **{figures.REWARD + name: each[index].get(decoding.name) for name, each in rewards.items()},
            **{figures.CHOSEN + name: each[index].get(CHOSEN) for name, each in rewards.items()},
        }
        for decoding in plan.decodings
        for index, query in enumerate(plan.queries.queries)
    ]
    models = [kind + name for kind in (figures.REWARD, figures.CHOSEN) for name in rewards]
    return pl.DataFrame(rows, schema={**ANSWERS, **dict.fromkeys(models, pl.Float64)})


def _described(sample: Sample, rules: Rules) -> dict[str, Any]:
    if sample.refused is not None:
        return dict.fromkeys(("text", "tokens", "finished", "empty", "refusal"))
    return {
        "text": sample.text,
        "tokens": len(sample.tokens or ()),
        "finished": sample.finished,
        "empty": not sample.text,
        "refusal": rules.refuses(sample.text.replace("’", "'")),
    }


def left_out_of(
    samples: Mapping[str, Sequence[Sample]], chosen: Mapping[str, int], scored: Mapping[str, Rewarded]
) -> LeftOut:
    """Queries, chosen responses and answers that figures do without, by reason."""
    answers = {
        name: Counter(
            [
                *(sample.refused for sample in each if sample.refused is not None),
                *("query_cut" for sample in each if sample.turns_cut),
            ]
        )
        for name, each in samples.items()
    }
    return LeftOut(
        answers={name: dict(counts) for name, counts in answers.items() if counts},
        perplexity=dict(chosen),
        rewards={name: each.refused for name, each in scored.items() if each.refused},
    )


def chosen_perplexity(chosen: Sequence[ResponseLikelihood | None], cut: Mapping[str, int]) -> Perplexity | None:
    """Perplexity of the chosen responses; None where there are none."""
    given = [likelihood for likelihood in chosen if likelihood is not None]
    return figures.perplexity(
        np.array([-likelihood.logp for likelihood in given]), np.array([likelihood.tokens for likelihood in given]), cut
    )


def write_files(
    plan: EvalPlan,
    seed: int,
    out: Path,
    table: pl.DataFrame,
    samples: Mapping[str, Sequence[Sample]],
    chosen: Sequence[ResponseLikelihood | None],
    rewards: Mapping[str, Sequence[dict[str, float | None]]],
) -> None:
    """Every file of the folder but `eval.json`."""
    queries = plan.queries.queries
    first: Sequence[dict[str, float | None]] = next(iter(rewards.values()), [{} for _ in queries])
    for decoding in plan.decodings:
        name, prompt = decoding.name, decoding.prompt
        seeds = [ask.seed for ask in asked(queries, prompt, Sampling(), seed)]
        scores = [row.get(name) for row in first]
        write_responses(out, name, prompt, plan.subject, queries, samples[name], scores, seeds)
    write_benchmarks(out, plan.subject.label, queries, samples["greedy"])
    rows = [
        {"query_id": query.query_id, "nll": -likelihood.logp, "tokens": likelihood.tokens}
        for query, likelihood in zip(queries, chosen, strict=True)
        if likelihood is not None
    ]
    write_table(
        out / RECORDS_FILE, pl.DataFrame(rows, schema={"query_id": pl.String, "nll": pl.Float64, "tokens": pl.Int64})
    )
    write_table(out / ANSWERS_FILE, table)


def measured_from(plan: EvalPlan) -> MeasuredFrom | None:
    """Which policy KL is measured from, and whether it is the run's own start."""
    if plan.start is None:
        return None
    own = plan.subject.kind == "run" and changed_since(plan.subject, plan.start) is None
    return MeasuredFrom(plan.start.spec, plan.start.label, plan.start.weights, own)


def asked_queries(queries: Queries) -> AskedQueries:
    """What the result says of its queries."""
    return AskedQueries(
        source=queries.source,
        name=queries.name,
        count=len(queries.queries),
        sha256=queries.sha256,
        with_chosen=sum(query.chosen is not None for query in queries.queries),
        left_out=queries.left_out,
    )
