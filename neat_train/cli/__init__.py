"""The verbs of `neat-train`: parse, call, print. Nothing here computes; each module adds its verbs to `app`."""

from __future__ import annotations

from typing import Annotated

import typer

from neat_data import __version__
from neat_train.cli import export, fit

app = typer.Typer(
    help="Train a policy on a preference dataset, by negative prompts (NEAT) and the methods it is compared with.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verbs in (fit, export):
    verbs.add_to(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neat-align {__version__}")
        raise typer.Exit()


@app.callback()
def neat_train(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script `neat-train`."""
    app()
