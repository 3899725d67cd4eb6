"""The verbs that make something new of a finished dataset: `neat-data rescore` and `neat-data compact`."""

from __future__ import annotations

import typer

from neat_data.arguments import compression, rescore_request
from neat_data.cli.command import verb
from neat_data.cli.output import Output
from neat_data.options.verbs import Compact, Rescore
from neat_data.store.address import folder_or_url


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("rescore")(rescore_verb)
    app.command("compact")(compact_verb)


@verb
def compact_verb(options: Compact, output: Output) -> None:
    """Fold rounds, human verdicts and scores into the base shards of a new dataset; its records read the same."""
    from neat_data.report.terminal import print_compact_summary
    from neat_data.scoring.compact import compact

    how = compression(options.compression)
    with output.watcher() as watch:
        summary = compact(str(options.dataset), folder_or_url(options.out), compression=how, watch=watch)
    output.show(summary, print_compact_summary)


@verb
def rescore_verb(options: Rescore, output: Output) -> None:
    """Score a dataset's responses with a further reward model, beside its own rewards.

    The same command again goes on where an earlier one stopped, and scores what later rounds added. `--rank-by NAME`
    of the verbs that read then ranks by these scores.
    """
    from neat_data.report.terminal import print_rescore_summary
    from neat_data.scoring.rescore import rescore

    request = rescore_request(options)
    with output.watcher() as watch:
        summary = rescore(request, watch)
    output.show(summary, print_rescore_summary)
