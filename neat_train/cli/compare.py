"""`neat-train compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import neat_train
from neat_data.cli.command import verb
from neat_data.cli.output import Output
from neat_data.options.option import Argument
from neat_train.config.verbs import Comparing

if TYPE_CHECKING:
    from rich.console import Console

    from neat_train.comparison.result import Comparison


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("compare")(compare_verb)


@verb
def compare_verb(
    runs: Annotated[
        Sequence[str],
        Argument(
            "Runs that neat-train eval measured, or folders of evaluations; the same NAME for seeds of one arm; "
            "or one dataset, whose reward models are compared.",
            metavar="[NAME=]RUN...",
        ),
    ],
    options: Comparing,
    output: Output,
) -> None:
    """Set runs beside each other: perplexity, reward, KL, length, judges, cost, and what is more than chance.

    Each is expected to have more reward than the one before it, and that is tested.
    """
    from neat_data.store import manifest

    if len(runs) == 1 and (Path(runs[0]) / manifest.FILE).is_file():
        return _reward_models(runs[0], options, output)
    from neat_train.comparison.evaluation import named

    output.show(neat_train.compare(named(runs), **vars(options)), _print)


def _reward_models(dataset: str, options: Comparing, output: Output) -> None:
    from neat_data.report.terminal import print_tables
    from neat_train.comparison.reward_models import compare_rewards, tables

    comparison = compare_rewards(dataset)
    if options.markdown is not None:
        from neat_train.comparison.markdown import write_markdown

        write_markdown(tables(comparison), Path(options.markdown))
    output.show(comparison, lambda it, console: print_tables(tables(it), console))


def _print(comparison: Comparison, console: Console) -> None:
    from neat_data.report.terminal import print_tables
    from neat_train.comparison.tables import fitted, tables

    print_tables([part for table in tables(comparison) for part in fitted(table, console.width)], console)
