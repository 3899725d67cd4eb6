"""`neat-data rounds`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neat_data.cli.options import Dataset, Json, open_dataset, print_json, stdout
from neat_data.verb import verb


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("rounds")(rounds_verb)


@verb
def rounds_verb(
    dataset: Dataset,
    drop_round: Annotated[
        int | None, typer.Option(min=1, help="Remove this round, which must be the newest.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """List the rounds of a dataset, or remove the newest."""
    from neat_data.rounds import drop, rounds

    if drop_round is not None:
        drop(Path(dataset), drop_round)
    found = rounds(open_dataset(dataset))
    if json_:
        print_json({"rounds": [at.to_dict() for at in found]})
    else:
        from neat_data.report.growth import print_rounds

        print_rounds(found, stdout())
