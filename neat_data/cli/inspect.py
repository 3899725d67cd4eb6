"""The verbs that look at a dataset: `neat-data rounds`, `stats`, `verify` and `show`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

import neat_data
from neat_data.cli.command import verb
from neat_data.cli.output import Output, open_dataset, print_json, stdout
from neat_data.options.groups import OfDataset, RankBy
from neat_data.options.option import Option
from neat_data.options.verbs import Stats, Verify
from neat_data.store.address import folder_or_url


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("rounds")(rounds_verb)
    app.command("stats")(stats_verb)
    app.command("verify")(verify_verb)
    app.command("show")(show_verb)


@verb
def stats_verb(options: Stats, output: Output) -> None:
    """Tell how far apart the responses are, and what the reward may really be measuring."""
    from neat_data.report.terminal import print_stats

    dataset = open_dataset(options.dataset, options.drop_by)
    output.show(neat_data.stats(**vars(replace(options, dataset=dataset))), print_stats)
    for name in ("report", "plots"):
        if (place := getattr(options, name)) is not None:
            typer.echo(f"{name}: {place}", err=True)


@verb
def verify_verb(options: Verify, output: Output) -> None:
    """Recompute every hash and check every promise a record makes; exit status 1 where something is wrong."""
    from neat_data.report.terminal import print_verification

    verification = neat_data.verify(**vars(options))
    output.show(verification, print_verification)
    if not verification.ok:
        raise typer.Exit(1)


@verb
def show_verb(
    options: OfDataset,
    query_id: Annotated[str | None, Option("The record of this query (a prefix will do).")] = None,
    widest_gap: Annotated[int | None, Option("The N records with the widest gap.", min=1)] = None,
    random: Annotated[int | None, Option("N records drawn by {seed}.", min=1)] = None,
    seed: Annotated[int, Option("Seed of {random}.")] = 0,
    limit: Annotated[int, Option("Records shown where nothing else is asked for.", min=1)] = 5,
    rank_by: RankBy = None,
    *,
    output: Output,
) -> None:
    """Show records in the terminal."""
    from neat_data.analysis.show import choose
    from neat_data.report.terminal import print_records

    records = choose(
        open_dataset(options.dataset),
        query_id=query_id,
        widest_gap=widest_gap,
        random=random,
        seed=seed,
        limit=limit,
        rank_by=rank_by,
    )
    if output.json:
        print_json({"records": [record.to_dict() for record in records]})
    elif not output.quiet:
        print_records(records, stdout())


@verb
def rounds_verb(
    options: OfDataset,
    drop_round: Annotated[int | None, Option("Remove this round, which must be the newest.", min=1)] = None,
    *,
    output: Output,
) -> None:
    """List the rounds of a dataset, or remove the newest."""
    from neat_data.report.terminal import print_rounds
    from neat_data.rounds.inspect import drop, rounds

    if drop_round is not None:
        drop(folder_or_url(str(options.dataset)), drop_round)
    listed = rounds(open_dataset(options.dataset))
    if output.json:
        print_json({"rounds": [each.to_dict() for each in listed]})
    elif not output.quiet:
        print_rounds(listed, stdout())
