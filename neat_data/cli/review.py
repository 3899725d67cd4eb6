"""`neat-data review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import Dataset, Where, open_dataset
from neat_data.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("review")(review_verb)


@verb
def review_verb(
    dataset: Dataset,
    where: Where = None,
    polarity: Annotated[
        list[str] | None,
        typer.Option(
            help="Judge responses of this polarity: positive, negative, none (no such prompt) or all; repeatable.",
            show_default="negative",
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Records to judge, the same for every rater.", show_default="all")
    ] = None,
    mode: Annotated[
        Literal["verdicts", "pairs", "edits"],
        typer.Option(
            help="Ask for verdicts on single responses; which of a pair is worse; or verdicts that may rewrite the "
            "response."
        ),
    ] = "verdicts",
    overlap: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of the records that every rater gets; the others go to who comes first."
        ),
    ] = 1.0,
    labels: Annotated[
        Path | None,
        typer.Option(help="YAML file with advice, words for the grades and labels of your own.", show_default=False),
    ] = None,
    show_rewards: Annotated[
        bool, typer.Option("--show-rewards", help="Show rewards and origins before the verdict.")
    ] = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any free one.")] = 0,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen on an address that other machines reach.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Look through a dataset and judge its responses in a browser; a verdict is on disk before the page says so."""
    if "://" in dataset:
        raise InputError(f"{dataset}: verdicts are written into a folder; give one of this machine.")
    try:
        from neat_data.review.app import Review
        from neat_data.review.serve import Place, serve
    except ImportError as error:
        raise InputError(f'{error}; pip install "neat-align[review]" brings what `review` needs.') from error
    from neat_data.review.rubric import Rubric
    from neat_data.review.tasks import Tasks

    rubric = Rubric() if labels is None else Rubric.load(labels)
    tasks = Tasks.choose(
        open_dataset(dataset),
        where=where,
        polarities=polarity or ("negative",),
        sample=sample,
        mode=mode,
        overlap=overlap,
        may_be_none=not (where or polarity or sample),  # there is still something to look at
    )

    def ready(address: str) -> None:
        what = "pairs" if mode == "pairs" else "responses"
        typer.echo(f"{len(tasks.query_of):,} {what} to judge. Ctrl-C ends; every verdict is on disk.\nopen {address}")
        if open_:
            typer.launch(address)

    serve(Review(tasks, show_rewards, rubric), Place(host, port, allow_remote), ready)
