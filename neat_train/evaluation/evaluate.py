"""`eval`: what training did to a policy, measured on queries that it was not trained on.

The folder it writes:

    eval.json        every figure (`format` says the version); written last
    answers.arrow    one row an answer, `ANSWERS` and a column `reward/MODEL` and `chosen/MODEL` for each reward model
    records.arrow    one row a chosen response: query_id, nll (sum over tokens), tokens
    responses/DECODING.arrow    the same answers as records (`neat_data.record.SCHEMA`)
    alpaca_eval.json, arena_hard.jsonl    the greedy answers in the formats of AlpacaEval and Arena-Hard
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neat_data.errors import InputError
from neat_data.models.encode import QUERY_TOO_LONG, encode_query
from neat_data.models.sampler import Sample, Sampling
from neat_data.models.samplers.transformers import check_room
from neat_data.options.words import Thinking
from neat_data.progress import Silent, Watcher
from neat_data.rounds.candidates import REFUSAL, Rules
from neat_data.store.documents import Settings
from neat_data.store.manifest import package_versions
from neat_train.evaluation import figures
from neat_train.evaluation.files import ALPACA, ARENA, responses_file, write_benchmarks, write_responses, write_table
from neat_train.evaluation.folder import ANSWERS, ANSWERS_FILE, FORMAT, RECORDS_FILE, EvalFolder, read_eval
from neat_train.evaluation.likelihood import ResponseLikelihood
from neat_train.evaluation.measure import CHOSEN, Decoding, EvaluationParts, Rewarded
from neat_train.evaluation.queries import Queries, open_queries
from neat_train.evaluation.result import AskedQueries, EvalResult, LeftOut, MeasuredFrom, Perplexity
from neat_train.evaluation.reward_models import NamedReward, RewardOptions, named_rewards, scored_before
from neat_train.evaluation.subject import Subject, asked, named_prompt, open_subject
from neat_train.run_folder import SETTINGS

__all__ = ["EvalRequest", "EvalSummary", "evaluate", "read_answers", "read_eval"]


@dataclass(frozen=True)
class EvalRequest:
    """What `neat-train eval` was asked for.

    Attributes:
        subject: a run, one of its checkpoints, a model's or an adapter's folder, or a hub id.
        queries, where, limit, subset, split, format: as `open_queries` takes them.
        rewards: the reward models, that which trained first; each as `MODEL` or `NAME=MODEL`.
        reward_templates, reward_args: as `RewardOptions` takes them.
        out: the folder to write; None: `eval/NAME` in the run, NAME being that of the queries, or
            `eval/checkpoint-N/NAME` for one of its checkpoints, which a run may remove.
        prompt, negative: as `named_prompt` takes them: what answers are given under, and what the negative ones are.
        start: the policy that KL is measured from; None: the one that the run began from.
        refusal: a regular expression; an answer in whose first 200 characters it is found counts as a refusal.
        device, dtype, chat_template, thinking, template_args, max_length, token_budget, model_args, base: as
            `open_subject` takes them.
        trust_remote_code: whether code that comes with a model is run: with one that the user named, or its base.
    """

    subject: str
    queries: str
    rewards: tuple[str, ...] = ()
    out: Path | None = None
    prompt: str = "none"
    negative: str = "negative"
    start: str | None = None
    seed: int = 0
    where: str | None = None
    limit: int | None = None
    subset: str | None = None
    split: str | None = None
    format: str = "auto"
    max_new_tokens: int = 128
    refusal: str = REFUSAL
    device: str = "auto"
    dtype: str = "auto"
    chat_template: str = "auto"
    thinking: Thinking | None = None
    template_args: Mapping[str, Any] | None = None
    max_length: int | None = None
    token_budget: int | None = None
    model_args: Mapping[str, Any] | None = None
    trust_remote_code: bool = False
    base: str | None = None
    reward_templates: tuple[str, ...] = ()
    reward_args: tuple[str, ...] = ()

    def open(self, spec: str, *, trusted: bool = True) -> Subject:
        """A subject with the options of this request; one that the user did not name brings no code."""
        return open_subject(
            spec,
            device=self.device,
            dtype=self.dtype,
            chat_template=self.chat_template,
            thinking=self.thinking,
            template_args=dict(self.template_args or {}),
            max_length=self.max_length,
            token_budget=self.token_budget,
            model_args=dict(self.model_args or {}),
            trust_remote_code=self.trust_remote_code and trusted,
            base=self.base,
        )


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


@dataclass(frozen=True)
class _Plan:
    """Everything that was asked for, found and not yet loaded."""

    subject: Subject
    start: Subject | None
    queries: Queries
    decodings: tuple[Decoding, ...]
    rewards: dict[str, NamedReward]
    rules: Rules
    settings: Settings

    @property
    def files(self) -> tuple[str, ...]:
        """What it leaves behind, beside `eval.json`."""
        responses = (responses_file(decoding.name) for decoding in self.decodings)
        return ANSWERS_FILE, RECORDS_FILE, ALPACA, ARENA, *responses


def evaluate(request: EvalRequest, watch: Watcher | None = None) -> EvalSummary:
    """Answer, score and measure; the same call again goes on where an earlier one stopped.

    Raises:
        InputError: no such run, model, queries or prompt, or a folder that holds something else.
        RunError: out of memory at the smallest budget, a reward server that fails, the disk is full.
    """
    watch = watch or Silent()
    plan = _plan(request, watch)
    out = request.out or _default_out(request, plan)
    with EvalFolder.claim(out, plan.settings, request.queries, plan.files) as folder:
        already = folder.finished
        if not already:
            _require_answerable(request, plan)
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


def _plan(request: EvalRequest, watch: Watcher) -> _Plan:
    if not request.refusal:
        raise InputError("an empty expression is found in every answer; give one that tells refusals", field="refusal")
    rules = Rules(refusal=request.refusal)
    prompt, negative = named_prompt(request.prompt), named_prompt(request.negative)
    subject = request.open(request.subject)
    start = _start(request, subject, watch)
    rewards = named_rewards(
        request.rewards,
        RewardOptions(request.device, request.trust_remote_code, request.reward_templates, request.reward_args),
        scored_before(_run(subject), request.queries),
    )
    queries = open_queries(
        request.queries,
        where=request.where,
        limit=request.limit,
        subset=request.subset,
        split=request.split,
        format=request.format,
    )
    decodings = (
        Decoding("greedy", prompt, 0.0),
        Decoding("sampled", prompt, 1.0),
        Decoding("negative", negative, 1.0),
    )
    settings = {
        "subject": subject.settings,
        "start": start and start.identity,
        "queries": {"sha256": queries.sha256, "count": len(queries.queries)},
        "prompt": prompt.to_dict(),
        "negative": negative.to_dict(),
        "seed": request.seed,
        "max_new_tokens": request.max_new_tokens,
        "reward_models": {name: reward.identity for name, reward in rewards.items()},
        "refusal": rules.refusal,
    }
    return _Plan(subject, start, queries, decodings, rewards, rules, settings)


def _start(request: EvalRequest, subject: Subject, watch: Watcher) -> Subject | None:
    """The policy that KL is measured from: the one asked for, else the one that the run began from."""
    spec = request.start or subject.start
    if spec is None:
        unknown = {
            "run": "where the policy lies that this run began from is not known",
            "model": f"{subject.label} is no run of neat-train fit, so what it began from is not known",
        }
        watch.say(f"KL is left out: {unknown[subject.kind]}; name it as the start")
        return None
    try:
        start = request.open(spec, trusted=request.start is not None or spec == subject.base)
    except InputError as error:
        raise error.renamed({None: "start"}) from error
    if request.start is None and (other := _other(subject, start)):
        raise InputError(
            f"{spec}: is not the policy that {subject.label} began from any more (another {other})",
            advice="name the one to measure KL from: {start} POLICY",
        )
    if start.tokenizer_id != subject.tokenizer_id or start.template.fingerprint != subject.template.fingerprint:
        raise InputError(
            f"has another tokenizer or chat template than {subject.label}, so that the two give no "
            "probabilities to the same tokens",
            field="start",
            value=spec,
        )
    if start.max_length < subject.max_length:
        raise InputError(
            f"reads {start.max_length:,} tokens, and {subject.label} answers within "
            f"{subject.max_length:,}, so that it cannot read all that an answer was drawn after",
            field="start",
            value=spec,
            advice=f"say {{max_length}} {start.max_length} for both",
        )
    return start


def _other(subject: Subject, start: Subject) -> str | None:
    """What the policy that was found differs in from the one that the run was begun with."""
    names = ("weights", "config", "revision", "adapter")
    return next((name for name in names if subject.began_with.get(name) != start.identity.get(name)), None)


def _default_out(request: EvalRequest, plan: _Plan) -> Path:
    if plan.subject.kind != "run":
        raise InputError(
            f"{request.subject}: is no run of neat-train fit", advice="say with {out} where its figures go"
        )
    prompt = plan.decodings[0].prompt
    prompted = "" if prompt.text is None else f"-{prompt.name}"
    run, name = _run(plan.subject), f"{plan.queries.name}{prompted}"
    assert run is not None
    checkpoint = "" if run == Path(request.subject) else Path(request.subject).name
    return run / "eval" / checkpoint / name


def _run(subject: Subject) -> Path | None:
    """The folder of the run that a subject is, or is a checkpoint of."""
    folder = Path(subject.spec)
    if subject.kind != "run":
        return None
    return folder if (folder / SETTINGS).is_file() else folder.parent


def _require_answerable(request: EvalRequest, plan: _Plan) -> None:
    """Raise InputError where none of the queries can be answered, before anything of an evaluation is on the disk."""
    sampling = Sampling(max_new_tokens=request.max_new_tokens)
    asks = asked(plan.queries.queries, plan.decodings[0].prompt, sampling, request.seed)
    check_room(asks, plan.subject.max_length)
    refusals = (encode_query(ask, plan.subject.template, plan.subject.max_length).refused for ask in asks)
    reasons: Counter[str] = Counter()
    for reason in refusals:
        if reason is None:
            return
        reasons[reason] += 1
    hint = (
        "raise {max_length}, or lower {max_new_tokens}"
        if QUERY_TOO_LONG in reasons
        else "the chat template takes none of them; give another one: {chat_template}"
    )
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    raise InputError(f"none can be answered ({counts});", field="queries", value=request.queries, advice=hint)


def _measured(request: EvalRequest, plan: _Plan, folder: EvalFolder, watch: Watcher) -> EvalResult:
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
    table = _answers(plan, samples, kl, rewards)
    _write(request, plan, folder.path, table, samples, chosen, rewards)
    return EvalResult(
        format=FORMAT,
        subject=plan.subject.name,
        start=_measured_from(plan),
        queries=_asked_queries(plan.queries),
        prompt=request.prompt,
        seed=request.seed,
        settings=plan.settings,
        reward_models={name: each.settings for name, each in scored.items()},
        left_out=_left_out(samples, cut, scored),
        perplexity=_perplexity(chosen, cut),
        decodings=figures.decodings(table, list(rewards)),
        versions=package_versions(),
    )


def _kl(
    steps: EvaluationParts, plan: _Plan, samples: Sequence[Sample], own: Sequence[ResponseLikelihood | None]
) -> list[float | None]:
    """Log-probability under the subject less that under its start, of every sample."""
    if plan.start is None:
        return [None] * len(samples)
    theirs = steps.likelihood(plan.start, plan.subject, plan.decodings[1], samples)
    plan.start.close()
    return [None if a is None or b is None else a.logp - b.logp for a, b in zip(own, theirs, strict=True)]


def _answers(
    plan: _Plan,
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


def _left_out(
    samples: Mapping[str, Sequence[Sample]], chosen: Mapping[str, int], scored: Mapping[str, Rewarded]
) -> LeftOut:
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


def _perplexity(chosen: Sequence[ResponseLikelihood | None], cut: Mapping[str, int]) -> Perplexity | None:
    given = [likelihood for likelihood in chosen if likelihood is not None]
    return figures.perplexity(
        np.array([-likelihood.logp for likelihood in given]), np.array([likelihood.tokens for likelihood in given]), cut
    )


def _write(
    request: EvalRequest,
    plan: _Plan,
    out: Path,
    table: pl.DataFrame,
    samples: Mapping[str, Sequence[Sample]],
    chosen: Sequence[ResponseLikelihood | None],
    rewards: Mapping[str, Sequence[dict[str, float | None]]],
) -> None:
    queries = plan.queries.queries
    first: Sequence[dict[str, float | None]] = next(iter(rewards.values()), [{} for _ in queries])
    for decoding in plan.decodings:
        name, prompt = decoding.name, decoding.prompt
        seeds = [ask.seed for ask in asked(queries, prompt, Sampling(), request.seed)]
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


def _measured_from(plan: _Plan) -> MeasuredFrom | None:
    """Which policy KL is measured from, and whether it is the run's own start."""
    if plan.start is None:
        return None
    own = plan.subject.kind == "run" and _other(plan.subject, plan.start) is None
    return MeasuredFrom(plan.start.spec, plan.start.label, plan.start.weights, own)


def _asked_queries(queries: Queries) -> AskedQueries:
    return AskedQueries(
        source=queries.source,
        name=queries.name,
        count=len(queries.queries),
        sha256=queries.sha256,
        with_chosen=sum(query.chosen is not None for query in queries.queries),
        left_out=queries.left_out,
    )
