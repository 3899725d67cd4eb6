"""The verbs of `neat-train` as functions: `import neat_train as nt`, then `nt.fit(…)`.

Each makes a request of its options, hands it to the verb, and returns what came of it. They print nothing: progress is
a bar on stderr or in the notebook, and what the command line says goes to the logger `neat_train`. What a verb needs is
imported when it is called.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neat_data.api import watching
from neat_data.arguments import several
from neat_data.options.groups import Dataset
from neat_data.options.keywords import described, keywords
from neat_data.options.option import checked
from neat_train import arguments
from neat_train.config import verbs

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from neat_train.comparison.result import Comparison
    from neat_train.evaluation.evaluate import EvalSummary
    from neat_train.fitting import FitSummary
    from neat_train.judging.judge import Judgement
    from neat_train.policy.export import RunExportSummary
    from neat_train.training.progress import TrainingProgress

_PACKAGE = "neat_train"
Thinking = Literal["on", "off"]


@described(verbs.Fit)
def fit(
    dataset: Dataset,
    *,
    policy: str | Path,
    out: str | Path,
    method: str | None = None,
    pairs: Literal["chosen", "best-worst", "mu-2sigma", "random", "all"] | None = None,
    preset: Literal["recommended", "paper"] | None = None,
    settings: str | Path | None = None,
    reward_model: str | Path | None = None,
    eval_data: str | Path | None = None,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    progress: bool = True,
    **more: Any,
) -> FitSummary:
    """Train a policy on a dataset, sampling and scoring new responses on the way where the method does.

    The same call again goes on from the newest whole checkpoint. On several devices, every process that torchrun or
    accelerate starts makes the same call. `more` is any setting of a run, and any field of transformers'
    TrainingArguments, by its name: `learning_rate=5e-5`, `max_steps=100`, `device="cuda"`, `rounds={"queries": 64}`,
    `loss={"beta": 0.2}`.

    Raises:
        InputError: bad data, models or settings; a folder that holds something else.
        RunError: the run diverges, or is out of memory or of disk.

    Example:
        ```python
        run = nt.fit("demo/helpful", policy="data/models/tiny-policy", out="demo/run", method="neat-pp", max_steps=10)
        print(run.result.held_out.end["reward"])
        ```
    """
    options = verbs.Fit(
        dataset,
        policy=policy,
        out=out,
        method=method,
        pairs=pairs,
        preset=preset,
        settings=settings,
        reward_model=reward_model,
        eval_data=eval_data,
        trust_remote_code=trust_remote_code,
        base=base,
    )
    chosen, own = arguments.fit_settings(checked(options), more)
    from neat_train.fitting import fit

    with _training(progress) as watch:
        return fit(arguments.fit_request(options, chosen, own), watch, callbacks)


@keywords(verbs.Evaluate)
def evaluate(options: verbs.Evaluate) -> EvalSummary:
    """Measure a run or a model: perplexity, rewards of its answers, KL from its start, length, diversity, harm.

    The same call again goes on where one stopped, and returns the figures where it did not.

    Raises:
        InputError: no such run, model, queries or prompt, or a folder that holds something else.
        RunError: out of memory at the smallest budget, a reward server that fails, a full disk.

    Example:
        ```python
        result = nt.evaluate("demo/run", "demo/test", reward_models="data/models/tiny-reward", limit=20)
        print(result.result.decodings["sampled"].rewards["tiny-reward"].mean)
        ```
    """
    from neat_train.evaluation.evaluate import evaluate

    request = arguments.eval_request(options)
    with watching(options.progress, _PACKAGE) as watch:
        return evaluate(request, watch)


@keywords(verbs.Judge)
def judge(options: verbs.Judge) -> Judgement:
    """Let a model judge which of two sides answers better, each pair in both orders.

    It is first asked about what people chose and rejected on the same queries, so that its agreement with people is
    known. The same call again goes on where one stopped, and asks again what the judge did not take.

    Raises:
        InputError: a side, the queries, the judge or its key is not there, or the folder holds another comparison.
        RunError: the judge's server is gone, or refuses everything; the verdicts so far stay.

    Example:
        ```python
        verdicts = nt.judge("demo/run", "demo/test:chosen", judge="openai:MODEL", n=100)
        print(verdicts.result.win_rate)
        ```
    """
    from neat_train.judging.judge import judge

    request = arguments.judge_request(options)
    with watching(options.progress, _PACKAGE) as watch:
        return judge(request, watch)


@keywords(verbs.Compare)
def compare(options: verbs.Compare) -> Comparison:
    """Set runs beside each other: perplexity, reward, KL, length, judges, cost, and what is more than chance.

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
    from neat_train.comparison.compare import compare

    arms = {name: [Path(path) for path in several(paths)] for name, paths in options.runs.items()}
    judged = [Path(path) for path in several(options.judged)]
    comparison = compare(arms, evaluation=options.evaluation, judged=judged, hypotheses=options.hypotheses)
    if options.markdown is not None:
        from neat_train.comparison.markdown import write_markdown
        from neat_train.comparison.tables import tables

        write_markdown(tables(comparison), Path(options.markdown))
    if options.report is not None:
        from neat_train.comparison.page import write_report

        write_report(comparison, Path(options.report))
    if options.plots is not None:
        from neat_train.comparison.plots import write_plots

        write_plots(comparison, Path(options.plots))
    return comparison


@keywords(verbs.Export)
def export(options: verbs.Export) -> RunExportSummary:
    """Merge a run's adapter into its model, or upload it; without either, say where it is and how it loads.

    Raises:
        InputError: arguments that do not go together, nothing to export, a place that is taken.
        RunError: the disk is full; the hub refuses.

    Example:
        ```python
        nt.export("demo/run", merge=True, out="demo/merged")
        ```
    """
    from neat_train.policy.export import export

    request = arguments.export_request(options)
    with watching(options.progress, _PACKAGE) as watch:
        return export(request, watch)


def _training(progress: bool) -> TrainingProgress:
    """A bar that shows the steps, of the main one of several processes."""
    from rich.console import Console

    from neat_train.training.progress import TrainingProgress

    main = os.environ.get("RANK", "0") == "0"
    console = Console(stderr=True, highlight=False) if progress and main else None
    return TrainingProgress(console, logging.getLogger(_PACKAGE))
