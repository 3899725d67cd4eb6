"""`neat-data export`."""

from __future__ import annotations

import typer

from neat_data.arguments import export_request
from neat_data.cli.command import verb
from neat_data.cli.output import Output, open_dataset
from neat_data.options.verbs import Export


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("export")(export_verb)


@verb
def export_verb(options: Export, output: Output) -> None:
    """Write the dataset in a form that other trainers and tools read."""
    from neat_data.formats.export import export
    from neat_data.report.terminal import print_export_summary

    request = export_request(options)
    with output.watcher() as watch:
        summary = export(open_dataset(options.dataset, options.drop_by), request, watch)
    output.show(summary, print_export_summary)
