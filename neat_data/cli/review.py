"""`neat-data review`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import Dataset, Json, Where, open_dataset, print_json, stdout
from neat_data.errors import InputError

if TYPE_CHECKING:
    from neat_data.review.rubric import Rubric
    from neat_data.review.tasks import Tasks

Tool = Literal["label-studio", "argilla"]


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
    report: Annotated[
        bool, typer.Option("--report", help="Print what the verdicts say together, and serve nothing.")
    ] = False,
    to: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            help="Write what is to be judged, and the verdicts so far, for another tool, and serve nothing.",
            metavar="label-studio|argilla FILE",
            show_default=False,
        ),
    ] = None,
    from_: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--from",
            help="Take the verdicts of a file that another tool exported, and serve nothing.",
            metavar="label-studio|argilla FILE",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Look through a dataset and judge its responses in a browser; a verdict is on disk before the page says so."""
    if json_ and not report:
        raise InputError("--json goes with --report")
    if report:
        _report(dataset, json_)
        return
    if "://" in dataset:
        raise InputError(f"{dataset}: verdicts are written into a folder; give one of this machine.")
    if from_ is not None:
        _take(dataset, _tool(from_[0], "from"), from_[1])
        return
    from neat_data.review.rubric import Rubric
    from neat_data.review.tasks import Tasks

    rubric = Rubric() if labels is None else Rubric.load(labels)
    polarities = polarity or ("negative",)
    tasks = Tasks.choose(
        open_dataset(dataset),
        where=where,
        polarities=polarities,
        sample=sample,
        mode=mode,
        overlap=overlap,
        may_be_none=to is None and not (where or polarity or sample),  # there is still something to look at
    )
    if to is not None:
        _give(tasks, _tool(to[0], "to"), to[1])
        return
    _serve(tasks, rubric, show_rewards, (host, port, allow_remote), open_)


def _serve(tasks: Tasks, rubric: Rubric, show_rewards: bool, place: tuple[str, int, bool], open_: bool) -> None:
    try:
        from neat_data.review.app import Review
        from neat_data.review.serve import Place, serve
    except ImportError as error:
        raise _missing(error) from error

    def ready(address: str) -> None:
        what = "pairs" if tasks.mode == "pairs" else "responses"
        typer.echo(f"{len(tasks.query_of):,} {what} to judge. Ctrl-C ends; every verdict is on disk.\nopen {address}")
        if open_:
            typer.launch(address)

    serve(Review(tasks, show_rewards, rubric), Place(*place), ready)


def _give(tasks: Tasks, tool: Tool, path: Path) -> None:
    from neat_data.review.exchange.files import write

    count = write(tasks, tool, path)
    typer.echo(
        f"{count:,} responses written to {path}" + (f", the interface to {path}.xml" if "studio" in tool else "")
    )


def _take(dataset: str, tool: Tool, path: Path) -> None:
    from neat_data.review.exchange.files import read

    taken = read(open_dataset(dataset), tool, path)
    by_rater = ", ".join(f"{rater} {count:,}" for rater, count in taken.written.items()) or "none"
    typer.echo(f"{taken.read:,} verdicts read; written now: {by_rater}.")
    if taken.unknown:
        typer.echo(f"{taken.unknown:,} speak of responses that are not in the dataset and were left out.", err=True)


def _report(dataset: str, json_: bool) -> None:
    try:
        from neat_data.review.report import report
    except ImportError as error:
        raise _missing(error) from error
    from neat_data.report.terminal import print_tables
    from neat_data.review.tables import tables

    made = report(open_dataset(dataset))
    if json_:
        print_json(made.to_dict())
    else:
        print_tables(tables(made), stdout())


def _tool(name: str, field: str) -> Tool:
    for tool in get_args(Tool):
        if name == tool:
            return tool
    raise InputError(f"choose {' or '.join(get_args(Tool))}", field=field, value=name)


def _missing(error: ImportError) -> InputError:
    return InputError(f'{error}; pip install "neat-align[review]" brings what `review` needs.')
