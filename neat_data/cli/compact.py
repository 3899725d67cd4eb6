"""`neat-data compact`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neat_data.cli.options import Compression, Dataset, Json, Quiet, print_json, stdout, watcher
from neat_data.verb import verb


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("compact")(compact_verb)


@verb
def compact_verb(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The new dataset's folder.", show_default=False)],
    compression: Compression = "none",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fold rounds, human verdicts and scores into the base shards of a new dataset; its records read the same."""
    from neat_data.compact import compact

    with watcher(quiet) as watch:
        summary = compact(dataset, out, compression=None if compression == "none" else compression, watch=watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.summary import print_compact_summary

        print_compact_summary(summary, stdout())
