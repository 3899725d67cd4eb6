"""`neat-data score`."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from neat_data.arguments import reading, score_request
from neat_data.cli.command import verb
from neat_data.cli.output import Output, print_json, stdout
from neat_data.errors import InputError
from neat_data.options.option import Option
from neat_data.options.verbs import Score


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("score")(score_verb)


_OUT = Option("The dataset's folder, or its URL: s3://, gs://, az://; {dry_run} needs none.", metavar="<path>")


@dataclass(frozen=True, kw_only=True)
class ScoreCommand(Score):
    """Of `score`, which may also just look."""

    out: Annotated[str | Path | None, _OUT] = None  # type: ignore[assignment]
    dry_run: Annotated[bool, Option("Show three rows as they would be read, and write nothing.")] = False


@verb
def score_verb(options: ScoreCommand, output: Output) -> None:
    """Score a preference dataset and store it as ranked records.

    The same command again goes on where an earlier one stopped.
    """
    if options.dry_run:
        return _show_three(options, output)
    if options.out is None:
        raise InputError(
            "no place for the dataset", advice="Say {out} FOLDER, or {dry_run} to see how rows would be read"
        )
    from neat_data.report.terminal import print_score_summary
    from neat_data.scoring.score import score

    request = score_request(options)
    with output.watcher() as watch:
        summary = score(request, watch)
    output.show(summary, print_score_summary)


def _show_three(options: Score, output: Output) -> None:
    """Three rows of a source as they would be read."""
    from neat_data.report.reading import print_reading
    from neat_data.sources import open_source

    source = open_source(str(options.source), **reading(options))
    rows = list(islice(source.rows(), 3))
    if output.json:
        print_json({"format": source.format, "rows": [row.to_dict() for row in rows]})
    else:
        print_reading(source.format, rows, stdout())
