"""`neat-data score`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neat_data.arguments import column_places
from neat_data.cli.command import verb
from neat_data.cli.options import (
    Backend,
    ChatTemplate,
    Columns,
    Compression,
    Device,
    Dtype,
    Format,
    Ignore,
    Json,
    MaxLength,
    MaxResponse,
    ModelArg,
    Quiet,
    RewardBase,
    ScorePart,
    ScoringPath,
    TemplateArg,
    TokenBudget,
    TrustRemoteCode,
    Workers,
    print_json,
    reward_spec,
    stdout,
    watcher,
    worker_count,
)
from neat_data.errors import InputError
from neat_data.models.arguments import model_arguments


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("score")(score_verb)


@verb
def score_verb(
    source: Annotated[
        str, typer.Argument(help="A file, folder, glob or hub id (ID@REV); local first.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="The dataset's folder; --dry-run needs none.", show_default=False)
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option(
            help="A sequence classifier with one output or its adapter (folder or hub id), file.py:function, http://…, "
            "or judge:MODEL",
            show_default=False,
        ),
    ] = None,
    rewards: Annotated[
        Literal["model", "given"], typer.Option(help="`given` keeps the rewards that the source carries.")
    ] = "model",
    subset: Annotated[str | None, typer.Option(help="A subset or folder of a hub dataset.", show_default=False)] = None,
    split: Annotated[
        str | None, typer.Option(help="train (of a hub id or folder, the default), test, …, all.", show_default=False)
    ] = None,
    format: Format = "auto",
    columns: Columns = None,
    ignore: Ignore = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Leave out queries that occur in this dataset or source; repeatable.", show_default=False),
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    dtype: Dtype = "auto",
    workers: Workers = "1",
    max_length: MaxLength = None,
    max_response: MaxResponse = None,
    token_budget: TokenBudget = None,
    path: ScoringPath = "auto",
    chat_template: ChatTemplate = "auto",
    template_arg: TemplateArg = None,
    score: ScorePart = "answer",
    model_arg: ModelArg = None,
    trust_remote_code: TrustRemoteCode = False,
    base: RewardBase = None,
    shard_rows: Annotated[int, typer.Option(min=1, help="Source rows a shard.")] = 512,
    compression: Compression = "none",
    limit: Annotated[int | None, typer.Option(min=1, help="Source rows read at most.", show_default=False)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show three rows as they would be read, and write nothing.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a preference dataset and store it as ranked records.

    The same command again goes on where an earlier one stopped.
    """
    from neat_data.scoring import score as scoring

    if dry_run:
        _show_three(
            source,
            json_,
            subset=subset,
            split=split,
            format=format,
            columns=column_places(columns),
            ignore=ignore or (),
        )
        return
    if out is None:
        raise InputError("say --out FOLDER, or --dry-run to see how the rows would be read")
    if (reward_model is None) == (rewards == "model"):
        raise InputError("say either --reward-model MODEL or --rewards given")
    spec = None
    if reward_model is not None:
        spec = reward_spec(
            reward_model,
            model_arg,
            backend=backend,
            device=device,
            dtype=dtype,
            max_length=max_length,
            max_response=max_response,
            token_budget=token_budget,
            path=path,
            chat_template=chat_template,
            template_args=model_arguments(template_arg or [], "template_args"),
            score=score,
            trust_remote_code=trust_remote_code,
            base=base,
        )
    request = scoring.ScoreRequest(
        source=source,
        out=out,
        reward=spec,
        subset=subset,
        split=split,
        format=format,
        columns=column_places(columns),
        ignore=tuple(ignore or ()),
        exclude=tuple(exclude or ()),
        limit=limit,
        shard_rows=shard_rows,
        compression=None if compression == "none" else compression,
        workers=worker_count(workers),
    )
    with watcher(quiet) as watch:
        summary = scoring.score(request, watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.terminal import print_score_summary

        print_score_summary(summary, stdout())


def _show_three(source: str, as_json: bool, **options: Any) -> None:
    """Three rows of a source as they would be read."""
    from neat_data.report.reading import print_reading
    from neat_data.sources import open_source

    opened = open_source(source, **options)
    rows = list(islice(opened.rows(), 3))
    if as_json:
        print_json({"format": opened.format, "rows": [row.to_dict() for row in rows]})
    else:
        print_reading(opened.format, rows, stdout())
