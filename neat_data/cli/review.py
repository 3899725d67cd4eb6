"""`neat-data review`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from neat_data.cli.command import verb
from neat_data.cli.output import open_dataset, print_json, stdout
from neat_data.errors import InputError
from neat_data.options.groups import OfDataset, Where
from neat_data.options.option import Option

if TYPE_CHECKING:
    from neat_data.review.tasks import Tasks

Tool = Literal["label-studio", "argilla"]


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("review")(review_verb)


@dataclass(frozen=True, kw_only=True)
class ReviewCommand(OfDataset):
    """Of `review`."""

    where: Where = None
    polarity: Annotated[
        Sequence[str],
        Option(
            "Judge responses of this polarity: positive, negative, none (no such prompt) or all; repeatable.",
            unset="negative",
        ),
    ] = ()
    sample: Annotated[int | None, Option("Records to judge, the same for every rater.", min=1, unset="all")] = None
    mode: Annotated[
        Literal["verdicts", "pairs", "edits"],
        Option(
            "Ask for verdicts on single responses; which of a pair is worse; or verdicts that may rewrite the response."
        ),
    ] = "verdicts"
    overlap: Annotated[
        float, Option("Share of the records that every rater gets; the others go to who comes first.", min=0, max=1)
    ] = 1.0
    labels: Annotated[
        Path | None,
        Option("YAML file with advice, words for the grades and labels of your own.", metavar="<path>"),
    ] = None
    report: Annotated[bool, Option("Print what the verdicts say together, and serve nothing.")] = False
    to: Annotated[
        tuple[str, Path] | None,
        Option(
            "Write what is to be judged, and the verdicts so far, for another tool, and serve nothing.",
            metavar="<label-studio|argilla FILE>",
        ),
    ] = None
    from_: Annotated[
        tuple[str, Path] | None,
        Option(
            "Take the verdicts of a file that another tool exported, and serve nothing.",
            flag="--from",
            metavar="<label-studio|argilla FILE>",
        ),
    ] = None
    show_rewards: Annotated[bool, Option("Show rewards and origins before the verdict.")] = False
    host: Annotated[str, Option("The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Option("The port; 0: any free one.", min=0, max=65535)] = 0
    allow_remote: Annotated[bool, Option("Listen on an address that other machines reach.")] = False
    open_: Annotated[bool, Option("Open the page in the browser.", flag="--open")] = False
    json: Annotated[bool, Option("With {report}: one JSON object on stdout and nothing else there.")] = False


@verb
def review_verb(options: ReviewCommand) -> None:
    """Look through a dataset and judge its responses in a browser; a verdict is on disk before the page says so."""
    dataset = str(options.dataset)
    if options.json and not options.report:
        raise InputError("goes with a report", field="json", advice="Say {report}, too")
    if options.report:
        _report(dataset, options.json)
    elif "://" in dataset:
        raise InputError(f"{dataset}: verdicts are written into a folder; give one of this machine.")
    elif options.from_ is not None:
        _take(dataset, *options.from_)
    elif options.to is not None:
        _give(_tasks(options), *options.to)
    else:
        _serve(options)


def _tasks(options: ReviewCommand) -> "Tasks":
    """What there is to judge. Nothing, where nothing narrows it, still leaves something to look at."""
    from neat_data.review.tasks import Tasks

    narrowed = options.to or options.where or options.polarity or options.sample
    return Tasks.choose(
        open_dataset(str(options.dataset)),
        where=options.where,
        polarities=options.polarity or ("negative",),
        sample=options.sample,
        mode=options.mode,
        overlap=options.overlap,
        may_be_none=not narrowed,
    )


def _serve(options: ReviewCommand) -> None:
    try:
        from neat_data.review.app import Review
        from neat_data.review.serve import Address, serve
    except ImportError as error:
        raise _missing(error) from error
    from neat_data.review.journal import writable
    from neat_data.review.rubric import ReviewRubric

    rubric = ReviewRubric() if options.labels is None else ReviewRubric.load(options.labels)
    tasks = _tasks(options)
    if tasks.items and not writable(Path(str(options.dataset))):
        typer.echo(f"{options.dataset}: cannot be written to, so no verdict can be saved; looking works.", err=True)

    def ready(address: str) -> None:
        what = "pairs" if tasks.mode == "pairs" else "responses"
        typer.echo(f"{len(tasks.query_of):,} {what} to judge. Ctrl-C ends; every verdict is on disk.\nopen {address}")
        if options.open_:
            typer.launch(address)

    place = Address(options.host, options.port, options.allow_remote)
    serve(Review(tasks, options.show_rewards, rubric), place, ready)


def _give(tasks: "Tasks", tool: str, path: Path) -> None:
    from neat_data.review.exchange.files import write

    count = write(tasks, _tool(tool, "to"), path)
    typer.echo(
        f"{count:,} responses written to {path}" + (f", the interface to {path}.xml" if "studio" in tool else "")
    )


def _take(dataset: str, tool: str, path: Path) -> None:
    from neat_data.review.exchange.files import read

    taken = read(open_dataset(dataset), _tool(tool, "from"), path)
    by_rater = ", ".join(f"{rater} {count:,}" for rater, count in taken.written.items()) or "none"
    typer.echo(f"{taken.read:,} verdicts read; written now: {by_rater}.")
    if taken.unknown:
        typer.echo(f"{taken.unknown:,} speak of responses that are not in the dataset and were left out.", err=True)


def _report(dataset: str, json: bool) -> None:
    try:
        from neat_data.review.report import report
    except ImportError as error:
        raise _missing(error) from error
    from neat_data.report.terminal import print_tables
    from neat_data.review.tables import tables

    made = report(open_dataset(dataset))
    if json:
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
