"""The verbs of `neat-train` as functions: `import neat_train as nt`, then `nt.fit(…)`.

Each makes a request of its keywords, hands it to the verb, and returns what came of it. They print nothing: progress is
a bar on stderr or in the notebook, and what the command line says goes to the logger `neat_train`. What a verb needs is
imported when it is called.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neat_data.api import watching
from neat_data.arguments import at_least, path_or_none, place_of, several, text_or_none
from neat_data.errors import InputError

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from neat_data.store.dataset import PreferenceDataset
    from neat_train.comparison.result import Comparison
    from neat_train.evaluation.evaluate import EvalSummary
    from neat_train.fitting import FitSummary
    from neat_train.judging.judge import Judgement
    from neat_train.policy.export import RunExportSummary
    from neat_train.training.progress import TrainingProgress

_PACKAGE = "neat_train"
Thinking = Literal["on", "off"]


def fit(
    dataset: str | Path | PreferenceDataset,
    *,
    policy: str | Path,
    out: str | Path,
    method: str | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    reward_model: str | Path | None = None,
    eval_data: str | Path | None = None,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    progress: bool = True,
    **settings: Any,
) -> FitSummary:
    """Train a policy on a dataset, sampling and scoring new responses on the way where the method does.

    The same call again goes on from the newest whole checkpoint. On several devices, every process that torchrun or
    accelerate starts makes the same call.

    Args:
        dataset: a finished dataset's folder, or what `neat_data.open` returned.
        policy: what is trained: a causal LM (folder or hub id), or a run to go on from.
        out: the run's folder.
        method: `neat` (the default), any other of `neat_train.config.settings.METHODS`, or a loss of your own,
            `FILE.py:FUNCTION`.
        preset: the objective's settings: `recommended` (the default), or `paper`, to the letter.
        config: a YAML file of settings; what is said here wins.
        reward_model: what scores samples and held-out answers; None: the model that scored the dataset.
        eval_data: a dataset whose queries are held out; None: 2 % of the queries.
        trust_remote_code: whether code that comes with the policy is run.
        base: the model of an adapter that names a folder.
        callbacks: of transformers, beside those that write the run's metrics.
        progress: whether to show a bar.
        **settings: any setting of a run, and any field of transformers' TrainingArguments, by its name:
            `learning_rate=5e-5`, `max_steps=100`, `device="cuda"`, `rounds={"queries": 64}`, `loss={"beta": 0.2}`.

    Raises:
        InputError: bad data, models or settings; a folder that holds something else.
        RunError: the run diverges, or is out of memory or of disk.

    Example:
        ```python
        run = nt.fit("demo/helpful", policy="data/models/tiny-policy", out="demo/run", method="neat-pp", max_steps=10)
        print(run.result.held_out.end["reward"])
        ```
    """
    from neat_train.config.reading import read_settings
    from neat_train.fitting import FitRequest
    from neat_train.fitting import fit as train
    from neat_train.losses.own import load_own

    own = load_own(method) if method and ".py:" in method else None
    named = {"method": None if own else method, "rounds.reward_model": reward_model, "held_out.data": eval_data}
    said = {name: str(value) for name, value in named.items() if value is not None}
    chosen = read_settings(
        path_or_none(config), {**settings, **said}, preset=preset or "", own=own.settings if own else None
    )
    request = FitRequest(place_of(dataset), str(policy), Path(out), chosen, trust_remote_code, text_or_none(base), own)
    with _training(progress) as watch:
        return train(request, watch, callbacks)


def evaluate(
    model: str | Path,
    queries: str | Path | PreferenceDataset,
    *,
    reward_models: str | Path | Iterable[str | Path] = (),
    reward_templates: str | Iterable[str] = (),
    reward_args: str | Iterable[str] = (),
    out: str | Path | None = None,
    prompt: str = "none",
    negative: str = "negative",
    start: str | Path | None = None,
    seed: int = 0,
    where: str | None = None,
    limit: int | None = None,
    subset: str | None = None,
    split: str | None = None,
    format: str = "auto",
    max_new_tokens: int = 128,
    refusal: str | None = None,
    max_length: int | None = None,
    token_budget: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    chat_template: str = "auto",
    thinking: Thinking | None = None,
    template_args: Mapping[str, Any] | None = None,
    model_args: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
    progress: bool = True,
) -> EvalSummary:
    """Measure a run or a model: perplexity, rewards of its answers, KL from its start, length, diversity, harm.

    The same call again goes on where one stopped, and returns the figures where it did not.

    Args:
        model: a run, one of its checkpoints, a model's folder, or a hub id.
        queries: what is asked: a dataset, or a file, folder, glob or hub id of preference data or of bare queries.
        reward_models: what scores the answers, each `MODEL` or `NAME=MODEL`. Beside the one that trained, give one that
            did not. One that scored the run's dataset or the queries is loaded with the settings that it had.
        reward_templates: chat templates of reward models: `auto`, `hh`, a Jinja file, or `NAME=…` for one of them.
        reward_args: `KEY=VALUE` for reward models, or `NAME=KEY=VALUE` for one of them.
        out: where the figures go; None: `RUN/eval/[CHECKPOINT/]QUERIES`.
        prompt: what stands around a query: `none`, `positive`, `neat:NAME` or `FILE:NAME`.
        negative: the prompt whose answers show whether the policy still obeys it.
        start: the policy that KL is measured from; None: the one that the run began from.
        seed: of the answers at temperature 1.
        where: a SQL expression over the record.
        limit: queries at most.
        subset, split, format: of the queries; `split` None: `test`.
        max_new_tokens: tokens of an answer at most.
        refusal: a regular expression that tells a refusal by its first 200 characters; None: English ones.
        max_length: tokens of query and answer; None: the model's window, 4,096 at most.
        token_budget: tokens of one batch of answers; None: the device's.
        device, dtype, chat_template: of the model.
        thinking: `on` or `off` asks for a thought before the answer, or for none; None: as the template has it.
        template_args: handed to the chat template, say `{"enable_thinking": False}`.
        model_args: handed to the model's back end.
        trust_remote_code: whether code that comes with a model is run.
        base: the model of an adapter that names a folder.
        progress: whether to show a bar.

    Raises:
        InputError: no such run, model, queries or prompt, or a folder that holds something else.
        RunError: out of memory at the smallest budget, a reward server that fails, a full disk.

    Example:
        ```python
        result = nt.evaluate("demo/run", "demo/test", reward_models="data/models/tiny-reward", limit=20)
        print(result.result.decodings["sampled"].rewards["tiny-reward"].mean)
        ```
    """
    from neat_data.rounds.candidates import REFUSAL
    from neat_train.evaluation.evaluate import EvalRequest
    from neat_train.evaluation.evaluate import evaluate as measure

    at_least(1, limit=limit, max_new_tokens=max_new_tokens)
    at_least(8, max_length=max_length)
    at_least(64, token_budget=token_budget)
    request = EvalRequest(
        subject=str(model),
        queries=place_of(queries),
        rewards=several(reward_models),
        out=path_or_none(out),
        prompt=prompt,
        negative=negative,
        start=text_or_none(start),
        seed=seed,
        where=where,
        limit=limit,
        subset=subset,
        split=split,
        format=format,
        max_new_tokens=max_new_tokens,
        refusal=REFUSAL if refusal is None else refusal,
        device=device,
        dtype=dtype,
        chat_template=chat_template,
        thinking=thinking,
        template_args=dict(template_args or {}),
        max_length=max_length,
        token_budget=token_budget,
        model_args=dict(model_args or {}),
        trust_remote_code=trust_remote_code,
        base=text_or_none(base),
        reward_templates=several(reward_templates),
        reward_args=several(reward_args),
    )
    with watching(progress, _PACKAGE) as watch:
        return measure(request, watch)


def judge(
    a: str | Path,
    b: str | Path,
    *,
    judge: str | Path,
    queries: str | Path | PreferenceDataset | None = None,
    n: int = 300,
    out: str | Path | None = None,
    calibrate: int | None = None,
    seed: int = 0,
    where: str | None = None,
    split: str | None = None,
    prompt_file: str | Path | None = None,
    base_url: str | None = None,
    judge_args: Mapping[str, Any] | None = None,
    concurrency: int = 8,
    retries: int = 6,
    timeout: float = 600.0,
    prompt: str = "none",
    temperature: float = 0.0,
    max_new_tokens: int = 128,
    device: str = "auto",
    dtype: str = "auto",
    chat_template: str = "auto",
    trust_remote_code: bool = False,
    base: str | Path | None = None,
    progress: bool = True,
) -> Judgement:
    """Let a model judge which of two sides answers better, each pair in both orders.

    It is first asked about what people chose and rejected on the same queries, so that its agreement with people is
    known. The same call again goes on where one stopped, and asks again what the judge did not take.

    Args:
        a: a run, a model, `chosen`, `rejected`, or `DATASET:chosen`, `DATASET:rejected`.
        b: what it is compared with.
        judge: `openai:NAME` (or NAME with a `base_url`), `anthropic:NAME`, or a local model. Keys are read from
            OPENAI_API_KEY and ANTHROPIC_API_KEY.
        queries: what both are asked; None: the DATASET of a or b.
        n: queries, drawn at random by `seed`; the paper has 30.
        out: where the verdicts go; None: `A/judge/B-by-JUDGE`.
        calibrate: pairs that people judged, which the judge is asked about first; None: `n`.
        seed: of the sample of queries, and of the answers.
        where: a SQL expression over the record.
        split: of `queries` and DATASET; None: `test`, where they have some.
        prompt_file: what the judge is asked, as YAML; None: the shipped question.
        base_url: the judge's server; None: OPENAI_BASE_URL or ANTHROPIC_BASE_URL.
        judge_args: for the judge: `max_tokens`, `temperature`, or what its API knows.
        concurrency: questions under way at once.
        retries: of a request, with a growing wait.
        timeout: seconds that one request may take.
        prompt: what a and b are asked under, as in `evaluate`.
        temperature: of the answers of a and b; 0 is greedy.
        max_new_tokens: tokens of an answer of a or b.
        device, dtype, chat_template, trust_remote_code, base: of a, b and a local judge.
        progress: whether to show a bar.

    Raises:
        InputError: a side, the queries, the judge or its key is not there, or the folder holds another comparison.
        RunError: the judge's server is gone, or refuses everything; the verdicts so far stay.

    Example:
        ```python
        verdicts = nt.judge("demo/run", "demo/test:chosen", judge="openai:MODEL", n=100)
        print(verdicts.result.win_rate)
        ```
    """
    from neat_train.judging.clients.client import JudgeSpec
    from neat_train.judging.judge import JudgeRequest
    from neat_train.judging.judge import judge as compare_sides
    from neat_train.judging.prompt import DEFAULT
    from neat_train.judging.sides import Answering

    at_least(1, n=n, concurrency=concurrency, max_new_tokens=max_new_tokens)
    at_least(0, calibrate=calibrate, retries=retries)
    if timeout <= 0 or temperature < 0:
        raise InputError(f"timeout={timeout}, temperature={temperature}: the first is above 0, the second 0 or above")
    local: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
        "base": text_or_none(base),
    }
    request = JudgeRequest(
        a=str(a),
        b=str(b),
        judge=JudgeSpec(
            str(judge),
            base_url=base_url,
            concurrency=concurrency,
            retries=retries,
            timeout=timeout,
            args=dict(judge_args or {}),
            **local,
        ),
        queries=None if queries is None else place_of(queries),
        where=where,
        split=split,
        n=n,
        seed=seed,
        calibrate=calibrate,
        prompt_file=DEFAULT if prompt_file is None else Path(prompt_file),
        out=path_or_none(out),
        answering=Answering(prompt, temperature, seed, max_new_tokens, {"chat_template": chat_template, **local}),
    )
    with watching(progress, _PACKAGE) as watch:
        return compare_sides(request, watch)


def compare(
    runs: Mapping[str, str | Path | Iterable[str | Path]],
    *,
    evaluation: str | None = None,
    judged: str | Path | Iterable[str | Path] = (),
    hypotheses: Sequence[tuple[str, str]] | None = None,
    markdown: str | Path | None = None,
    report: str | Path | None = None,
    plots: str | Path | None = None,
) -> Comparison:
    """Set runs beside each other: perplexity, reward, KL, length, judges, cost, and what is more than chance.

    Args:
        runs: name -> a run that `evaluate` measured, the folder of an evaluation, or several: the seeds of one arm.
        evaluation: which evaluation of the runs: RUN/eval/EVALUATION; None: the one there is.
        judged: judge.json files, or the folders that hold one.
        hypotheses: pairs (worse, better) of names, tested in reward with Holm's correction; None: each is better than
            the one before it.
        markdown: write the tables there as Markdown.
        report: write an HTML page there, with tables, curves and answers.
        plots: write the pictures into this folder.

    Raises:
        InputError: nothing was evaluated, or what was cannot be compared.
        RunError: a file cannot be written.

    Example:
        ```python
        table = nt.compare({"dpo": "runs/dpo", "neat-pp": ["runs/neat-pp-0", "runs/neat-pp-1"]})
        for arm in table.arms:
            print(arm.name, arm.figures["reward"].value)
        ```
    """
    from neat_train.comparison.compare import compare as set_beside

    arms = {name: [Path(path) for path in several(paths)] for name, paths in runs.items()}
    comparison = set_beside(
        arms, evaluation=evaluation, judged=[Path(path) for path in several(judged)], hypotheses=hypotheses
    )
    if markdown is not None:
        from neat_train.comparison.markdown import write_markdown
        from neat_train.comparison.tables import tables

        write_markdown(tables(comparison), Path(markdown))
    if report is not None:
        from neat_train.comparison.page import write_report

        write_report(comparison, Path(report))
    if plots is not None:
        from neat_train.comparison.plots import write_plots

        write_plots(comparison, Path(plots))
    return comparison


def export(
    run: str | Path,
    *,
    merge: bool = False,
    out: str | Path | None = None,
    dtype: str | None = None,
    device: str = "auto",
    push_to_hub: str | None = None,
    public: bool = False,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
    progress: bool = True,
) -> RunExportSummary:
    """Merge a run's adapter into its model, or upload it; without either, say where it is and how it loads.

    Args:
        run: a run's folder, or one of its checkpoints.
        merge: whether to write one model, the adapter added to its base.
        out: where the merged model goes.
        dtype: of the merged weights: `float32`, `bfloat16` or `float16`; None: the base model's.
        device: what merges: `auto`, `cuda`, `npu` or `cpu`.
        push_to_hub: upload the model to this repository.
        public: whether a repository that is made is public.
        trust_remote_code: whether code that comes with the base is run.
        base: the model of an adapter that names a folder.
        progress: whether to show a bar.

    Raises:
        InputError: arguments that do not go together, nothing to export, a place that is taken.
        RunError: the disk is full; the hub refuses.

    Example:
        ```python
        nt.export("demo/run", merge=True, out="demo/merged")
        ```
    """
    from neat_train.policy import export as policy

    request = policy.RunExportRequest(
        run=Path(run),
        merged=merge,
        out=path_or_none(out),
        dtype=dtype,
        device=device,
        push_to_hub=push_to_hub,
        public=public,
        trust_remote_code=trust_remote_code,
        base=text_or_none(base),
    )
    with watching(progress, _PACKAGE) as watch:
        return policy.export(request, watch)


def _training(progress: bool) -> TrainingProgress:
    """A bar that shows the steps, of the main one of several processes."""
    from rich.console import Console

    from neat_train.training.progress import TrainingProgress

    main = os.environ.get("RANK", "0") == "0"
    console = Console(stderr=True, highlight=False) if progress and main else None
    return TrainingProgress(console, logging.getLogger(_PACKAGE))
