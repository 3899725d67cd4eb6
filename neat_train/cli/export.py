"""`neat-train export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from neat_data.cli.command import verb
from neat_data.cli.output import Output
from neat_train.arguments import export_request
from neat_train.config.verbs import Export

if TYPE_CHECKING:
    from rich.console import Console

    from neat_train.policy.export import RunExportSummary


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("export")(export_verb)


@verb
def export_verb(options: Export, output: Output) -> None:
    """Merge a run's adapter into its model, or upload it; without either, say where it is and how it loads."""
    from neat_train.policy.export import export

    request = export_request(options)
    with output.watcher() as watch:
        summary = export(request, watch)
    output.show(summary, _print)


def _print(summary: RunExportSummary, console: Console) -> None:
    from neat_train.policy.export import in_words

    kind = "AutoPeftModelForCausalLM" if summary.adapter else "AutoModelForCausalLM"
    what = "adapter" if summary.adapter else "model"
    lines = [f"{what}: {summary.model}", f'loads with {kind}.from_pretrained("{summary.model}")']
    if summary.merged is not None:
        lines.append(in_words(summary.merged))
    if summary.url is not None:
        lines.append(summary.url)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
