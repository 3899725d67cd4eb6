"""`neat-train compare`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import Json, Quiet, print_json, stdout
from neat_data.store import manifest

if TYPE_CHECKING:
    from neat_data.report.tables import Table


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("compare")(compare_verb)


@verb
def compare_verb(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN...",
            help="Runs that neat-train eval measured, or folders of evaluations; the same NAME for seeds of one arm; "
            "or one dataset, whose reward models are compared.",
            show_default=False,
        ),
    ],
    eval_: Annotated[
        str | None,
        typer.Option("--eval", help="Which evaluation: RUN/eval/NAME.", show_default="the one there is"),
    ] = None,
    judge: Annotated[
        list[Path] | None,
        typer.Option(
            help="A judge.json, or the folder that neat-train judge wrote; again for more.", show_default=False
        ),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables as Markdown.", show_default=False)] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with tables, curves and answers.", show_default=False)
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write the pictures into this folder.", show_default=False)] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Set runs beside each other: perplexity, reward, KL, length, judges, cost, and what is more than chance.

    Each is expected to have more reward than the one before it, and that is tested.
    """
    if len(runs) == 1 and (Path(runs[0]) / manifest.FILE).is_file():
        _reward_models(runs[0], markdown, json_, quiet)
        return
    from neat_train.comparison.compare import compare
    from neat_train.comparison.evaluation import named
    from neat_train.comparison.tables import tables

    found = compare(named(runs), evaluation=eval_, judged=judge or [])
    made = tables(found)
    if markdown is not None:
        from neat_train.comparison.markdown import write_markdown

        write_markdown(made, markdown)
    if report is not None:
        from neat_train.comparison.page import write_report

        write_report(found, report)
    if plots is not None:
        from neat_train.comparison.plots import write_plots

        write_plots(found, plots)
    if json_:
        print_json(found.to_dict())
    elif not quiet:
        _print(made)


def _reward_models(dataset: str, markdown: Path | None, as_json: bool, quiet: bool) -> None:
    from neat_train.comparison.reward_models import compare_rewards, tables

    found = compare_rewards(dataset)
    made = tables(found)
    if markdown is not None:
        from neat_train.comparison.markdown import write_markdown

        write_markdown(made, markdown)
    if as_json:
        print_json(found.to_dict())
    elif not quiet:
        from neat_data.report.terminal import print_tables

        print_tables(made, stdout())


def _print(made: Iterable[Table]) -> None:
    from neat_data.report.terminal import print_tables
    from neat_train.comparison.tables import fitted

    show = stdout()
    print_tables([part for table in made for part in fitted(table, show.width)], show)
