"""The verbs of `neat-data`: parse, call, print. Nothing here computes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml

from neat_data import __version__
from neat_data.errors import InputError
from neat_data.verb import verb

if TYPE_CHECKING:
    from rich.console import Console

    from neat_data.store.dataset import PreferenceDataset
    from neat_data.watch import Watcher

app = typer.Typer(
    help="Build preference datasets: score them with a reward model, see how far apart the responses are.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Dataset = Annotated[str, typer.Argument(help="A dataset folder that `neat-data score` wrote.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")]
Where = Annotated[
    str | None, typer.Option(help="A SQL expression over the record, say `gap_abs < 1.0`.", show_default=False)
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neat-align {__version__}")
        raise typer.Exit()


@app.callback()
def neat_data(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command("score")
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
            model_args=_model_args(model_arg or []),
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
        workers=_workers(workers),
    )
    with _watcher(quiet) as watch:
        summary = score(request, watch)
    if json_:
        _print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.summary import print_score_summary

        print_score_summary(summary, _stdout())


@app.command("stats")
@verb
def stats_verb(
    dataset: Dataset,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Gaps to count beyond; repeatable.", show_default="1.0, 5.0")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Break down by source, subset, split, turns or meta.KEY.", show_default=False)
    ] = None,
    where: Where = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.", show_default=False)] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Write the figures as PNG and SVG here.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """Tell how far apart the responses are, and what the reward may really be measuring."""
    from neat_data.stats import compute

    opened = _open(dataset)
    stats = compute(opened, thresholds=tuple(threshold or (1.0, 5.0)), by=by, where=where)
    if json_:
        _print_json(stats.to_dict())
    else:
        from neat_data.report.terminal import print_stats

        print_stats(stats, _stdout())
    if report is not None:
        from neat_data.report.page import write_report

        write_report(opened, stats, report)
        typer.echo(f"report: {report}", err=True)
    if plots is not None:
        from neat_data.report.plots import write_plots

        write_plots(opened, stats, plots)
        typer.echo(f"plots: {plots}", err=True)


@app.command("verify")
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
        _print_json(result.to_dict())
    else:
        from neat_data.report.summary import print_verification

        print_verification(result, _stdout())
    if not result.ok:
        raise typer.Exit(1)


@app.command("show")
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
    json_: Json = False,
) -> None:
    """Show records in the terminal."""
    from neat_data.show import choose

    records = choose(_open(dataset), query_id=query_id, widest_gap=widest_gap, random=random, seed=seed, limit=limit)
    if json_:
        _print_json({"records": [record.to_dict() for record in records]})
    else:
        from neat_data.report.terminal import print_records

        print_records(records, _stdout())


def _open(path: str) -> PreferenceDataset:
    """The dataset at `path`; says so where it is not finished."""
    import neat_data

    opened = neat_data.open(path)
    if not opened.complete:
        typer.echo(f"{path} is not finished: only the shards committed so far are read", err=True)
    return opened


def _print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def _stdout() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def _watcher(quiet: bool) -> Iterator[Watcher]:
    from rich.console import Console

    from neat_data.watch import Silent, TerminalWatcher

    if quiet:
        yield Silent()
        return
    with TerminalWatcher(Console(stderr=True, highlight=False)) as watch:
        yield watch


def _workers(text: str) -> int:
    """`auto` is 0: one process for every device."""
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--workers takes a number from 1, or auto, not {text!r}")
    return int(text)


def _model_args(pairs: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs, values read as YAML scalars."""
    arguments = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError(f"--model-arg takes KEY=VALUE, not {pair!r}")
        arguments[key] = yaml.safe_load(value)
    return arguments


def main() -> None:
    """The console script `neat-data`."""
    app()
