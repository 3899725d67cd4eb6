"""`neat-train judge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from neat_data.cli.command import verb
from neat_data.cli.output import Output
from neat_train.arguments import judge_request
from neat_train.config.verbs import Judge

if TYPE_CHECKING:
    from rich.console import Console

    from neat_train.judging.judge import Judgement


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("judge")(judge_verb)


@verb
def judge_verb(options: Judge, output: Output) -> None:
    """Let a model judge which of two sides answers better, each pair in both orders.

    It is first asked about what people chose and rejected on the same queries, so that its agreement with people is
    known. The same command again goes on where an earlier one stopped, and asks again what the judge did not take.
    """
    from neat_train.judging.judge import judge

    request = judge_request(options)
    with output.watcher() as watch:
        judgement = judge(request, watch)
    output.show(judgement, _print)


def _print(judgement: Judgement, console: Console) -> None:
    from neat_data.report.terminal import print_tables
    from neat_train.judging.terminal import tables

    if not judgement.asked:
        console.print("nothing was asked: every pair was judged before, or is the same text twice", markup=False)
    print_tables(tables(judgement.result), console)
    console.print(f"{judgement.out}/verdicts.jsonl holds every verdict", markup=False, soft_wrap=True)
