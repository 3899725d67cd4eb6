"""`neat-data export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import Dataset, DropBy, Json, Quiet, RankBy, Where, open_dataset, print_json, stdout, watcher
from neat_data.formats.names import Name, PairsOf


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("export")(export_verb)


@verb
def export_verb(
    dataset: Dataset,
    to: Annotated[Name, typer.Option(help="The form to write.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            help="The file, or the folder for datasets.load_from_disk. TRL's forms go by its ending: "
            ".jsonl or .json, .parquet, or none for a folder.",
            show_default=False,
        ),
    ],
    pairs: Annotated[
        PairsOf | None,
        typer.Option(
            help="Whose preferences: the rewards' (best-worst, or all pairs) or people's (labels; reviews: "
            "what reviewers said, dropped responses as rejected ones).",
            show_default="best-worst; trl-kto takes verdicts first",
        ),
    ] = None,
    min_gap: Annotated[
        float | None, typer.Option(help="Reward of chosen minus rejected must exceed this.", show_default=False)
    ] = None,
    where: Where = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Records taken at most.", show_default=False)] = None,
    rank_by: RankBy = None,
    drop_by: DropBy = "any",
    polarity: Annotated[
        list[str] | None,
        typer.Option(
            help="Take only responses of this polarity: positive, negative, or none (no such prompt); repeatable.",
            show_default="all",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out.")] = False,
    license_: Annotated[
        str | None, typer.Option("--license", help="The card's licence, say mit.", show_default="unknown")
    ] = None,
    language: Annotated[str | None, typer.Option(help="The card's language, say en.", show_default=False)] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload it to this repository too (--to hf).", show_default=False)
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the repository public.")] = False,
    include_negative: Annotated[
        bool, typer.Option("--include-negative", help="Upload responses sampled under a negative prompt as well.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the dataset in a form that other trainers and tools read."""
    from neat_data.formats.export import ExportRequest, export

    request = ExportRequest(
        to=to,
        out=out,
        pairs=pairs,
        min_gap=min_gap,
        where=where,
        limit=limit,
        rank_by=rank_by,
        polarities=tuple(polarity or ()),
        overwrite=overwrite,
        license=license_,
        language=language,
        push_to_hub=push_to_hub,
        public=public,
        include_negative=include_negative,
    )
    with watcher(quiet) as watch:
        summary = export(open_dataset(dataset, drop_by), request, watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.terminal import print_export_summary

        print_export_summary(summary, stdout())
