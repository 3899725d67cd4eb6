"""`neat-train fit`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neat_data.cli.command import verb
from neat_data.cli.output import Output
from neat_data.options.option import Option
from neat_train.arguments import fit_request, fit_settings
from neat_train.config.verbs import Fit, Flagged
from neat_train.training.launch import launch, launched

if TYPE_CHECKING:
    from rich.console import Console

    from neat_train.fitting import FitSummary
    from neat_train.training.progress import TrainingProgress


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("fit")(fit_verb)


@verb
def fit_verb(
    options: Fit,
    flagged: Annotated[dict[str, Any], Flagged],
    seed: Annotated[int | None, Option("Of the order, the samples and the adapter.", unset="0")] = None,
    report_to: Annotated[str | None, Option("tensorboard, wandb, trackio or none.", unset="none")] = None,
    set_: Annotated[
        Sequence[str],
        Option(
            "NAME=VALUE, say loss.beta=0.2, rounds.queries=epoch or learning_rate=1e-4; repeatable. TrainingArguments "
            "of transformers have their own names.",
            flag="--set",
        ),
    ] = (),
    nproc: Annotated[int, Option("Processes on this machine, one a device.", min=1)] = 1,
    *,
    output: Output,
) -> None:
    """Train a policy on a dataset, sampling and scoring new responses on the way where the method does.

    The same command again goes on where an earlier one stopped. Exit status 3: the run diverged and was stopped.
    """
    trainer = {name: value for name, value in (("seed", seed), ("report_to", report_to)) if value is not None}
    settings, own = fit_settings(options, {**flagged, **trainer}, set_)
    if nproc > 1 and not launched():
        if status := launch([sys.executable, "-m", "neat_train", *sys.argv[1:]], nproc):
            sys.exit(status)
        return
    from neat_train.fitting import fit

    with _progress(output.quiet) as watch:
        summary = fit(fit_request(options, settings, own), watch)
    if _last_together():
        output.show(summary, _print)


def _print(summary: FitSummary, console: Console) -> None:
    from neat_train.reports.summary import print_fit_summary

    print_fit_summary(summary.run, summary.result, console, already=summary.already)


@contextmanager
def _progress(quiet: bool) -> Iterator[TrainingProgress]:
    from rich.console import Console

    from neat_train.training.progress import TrainingProgress

    with TrainingProgress(None if quiet else Console(stderr=True, highlight=False)) as watch:
        yield watch


def _last_together() -> bool:
    """Let go of the other ranks; whether this is the main one."""
    from neat_train.distributed import Ranks

    ranks = Ranks.here()
    ranks.leave()
    return ranks.main
