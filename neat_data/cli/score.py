"""`neat-data score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from neat_data.cli.options import Json, Quiet, model_arguments, print_json, stdout, watcher, worker_count
from neat_data.errors import InputError
from neat_data.verb import verb


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("score")(score_verb)


@verb
def score_verb(
    source: Annotated[
        str, typer.Argument(help="A file, folder, glob or hub id (ID@REV); local first.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The dataset's folder.", show_default=False)],
    reward_model: Annotated[
        str | None,
        typer.Option(
            help="A sequence classifier with one output (folder or hub id), file.py:function, or http://…",
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
    format: Annotated[str, typer.Option(help="The rows' shape, where their columns do not tell.")] = "auto",
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Leave out queries that occur in this dataset or source; repeatable.", show_default=False),
    ] = None,
    backend: Annotated[Literal["auto", "transformers", "vllm"], typer.Option(help="What runs a classifier.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cuda, npu, cpu, or one device, say cuda:1.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    workers: Annotated[str, typer.Option(help="Processes, one a device: a number or auto.")] = "1",
    max_length: Annotated[
        int | None,
        typer.Option(min=8, help="Tokens of query and response.", show_default="the model's window"),
    ] = None,
    max_response: Annotated[
        int | None, typer.Option(min=2, help="Tokens of a response.", show_default="half of --max-length")
    ] = None,
    token_budget: Annotated[
        int | None, typer.Option(min=64, help="Tokens in one forward pass.", show_default="the device's")
    ] = None,
    path: Annotated[
        Literal["auto", "trees", "batches"],
        typer.Option(help="Share a query among its responses, or pad; auto checks what is exact."),
    ] = "auto",
    chat_template: Annotated[str, typer.Option(help="auto (the model's own), hh, or a Jinja file.")] = "auto",
    model_arg: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE handed to the back end, say attn_implementation=eager.", show_default=False),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
    shard_rows: Annotated[int, typer.Option(min=1, help="Source rows a shard.")] = 512,
    compression: Annotated[
        Literal["none", "zstd"],
        typer.Option(help="zstd makes shards smaller, for shipping; none lets readers map them."),
    ] = "none",
    limit: Annotated[int | None, typer.Option(min=1, help="Source rows read at most.", show_default=False)] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a preference dataset and store it as ranked records.

    The same command again goes on where an earlier one stopped.
    """
    from neat_data.models.reward import RewardSpec
    from neat_data.score import ScoreRequest, score

    if (reward_model is None) == (rewards == "model"):
        raise InputError("say either --reward-model MODEL or --rewards given")
    spec = None
    if reward_model is not None:
        spec = RewardSpec(
            model=reward_model,
            backend=backend,
            device=device,
            dtype=dtype,
            max_length=max_length,
            max_response=max_response,
            token_budget=token_budget,
            path=path,
            chat_template=chat_template,
            model_args=model_arguments(model_arg or []),
            trust_remote_code=trust_remote_code,
        )
    request = ScoreRequest(
        source=source,
        out=out,
        reward=spec,
        subset=subset,
        split=split,
        format=format,
        exclude=tuple(exclude or ()),
        limit=limit,
        shard_rows=shard_rows,
        compression=None if compression == "none" else compression,
        workers=worker_count(workers),
    )
    with watcher(quiet) as watch:
        summary = score(request, watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.summary import print_score_summary

        print_score_summary(summary, stdout())
