"""The verbs that look at a dataset: `neat-data rounds`, `stats`, `verify` and `show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import Dataset, DropBy, Json, RankBy, Where, open_dataset, print_json, stdout


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("rounds")(rounds_verb)
    app.command("stats")(stats_verb)
    app.command("verify")(verify_verb)
    app.command("show")(show_verb)


@verb
def stats_verb(
    dataset: Dataset,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Gaps to count beyond; repeatable.", show_default="1.0, 5.0")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Break down by source, subset, split, turns, meta.KEY or polarity.", show_default=False),
    ] = None,
    where: Where = None,
    rank_by: RankBy = None,
    drop_by: DropBy = "any",
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.", show_default=False)] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Write the figures as PNG and SVG here.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """Tell how far apart the responses are, and what the reward may really be measuring."""
    from neat_data.analysis.stats import compute

    opened = open_dataset(dataset, drop_by)
    stats = compute(opened, thresholds=tuple(threshold or (1.0, 5.0)), by=by, where=where, rank_by=rank_by)
    if json_:
        print_json(stats.to_dict())
    else:
        from neat_data.report.terminal import print_stats

        print_stats(stats, stdout())
    if report is not None:
        from neat_data.report.page import write_report

        write_report(opened, stats, report)
        typer.echo(f"report: {report}", err=True)
    if plots is not None:
        from neat_data.report.plots import write_plots

        write_plots(opened, stats, plots)
        typer.echo(f"plots: {plots}", err=True)


@verb
def verify_verb(
    dataset: Dataset,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make a lost manifest anew from the shards.")] = False,
    json_: Json = False,
) -> None:
    """Recompute every hash and check every promise a record makes; exit status 1 where something is wrong."""
    from neat_data.store.verify import verify

    result = verify(dataset, rebuild=rebuild)
    if json_:
        print_json(result.to_dict())
    else:
        from neat_data.report.terminal import print_verification

        print_verification(result, stdout())
    if not result.ok:
        raise typer.Exit(1)


@verb
def show_verb(
    dataset: Dataset,
    query_id: Annotated[
        str | None, typer.Option(help="The record of this query (a prefix will do).", show_default=False)
    ] = None,
    widest_gap: Annotated[
        int | None, typer.Option(min=1, help="The N records with the widest gap.", show_default=False)
    ] = None,
    random: Annotated[int | None, typer.Option(min=1, help="N records drawn by --seed.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of --random.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Records shown where nothing else is asked for.")] = 5,
    rank_by: RankBy = None,
    json_: Json = False,
) -> None:
    """Show records in the terminal."""
    from neat_data.analysis.show import choose

    records = choose(
        open_dataset(dataset),
        query_id=query_id,
        widest_gap=widest_gap,
        random=random,
        seed=seed,
        limit=limit,
        rank_by=rank_by,
    )
    if json_:
        print_json({"records": [record.to_dict() for record in records]})
    else:
        from neat_data.report.terminal import print_records

        print_records(records, stdout())


@verb
def rounds_verb(
    dataset: Dataset,
    drop_round: Annotated[
        int | None, typer.Option(min=1, help="Remove this round, which must be the newest.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """List the rounds of a dataset, or remove the newest."""
    from neat_data.rounds.inspect import drop, rounds

    if drop_round is not None:
        drop(Path(dataset), drop_round)
    found = rounds(open_dataset(dataset))
    if json_:
        print_json({"rounds": [at.to_dict() for at in found]})
    else:
        from neat_data.report.terminal import print_rounds

        print_rounds(found, stdout())
