"""Options that mean the same in every verb, and what turns their text into values."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neat_data.errors import InputError
from neat_data.models.arguments import model_arguments

if TYPE_CHECKING:
    from rich.console import Console

    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.progress import Watcher
    from neat_data.store.dataset import PreferenceDataset

Dataset = Annotated[str, typer.Argument(help="A dataset folder that `neat-data score` wrote.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")]
Where = Annotated[
    str | None, typer.Option(help="A SQL expression over the record, say `gap_abs < 1.0`.", show_default=False)
]
RankBy = Annotated[
    str | None,
    typer.Option(
        help="Rank by another reward model's scores: a NAME that `rescore` wrote; mean or min over all of them, "
        "standardised; mean:A,B over these.",
        show_default=False,
    ),
]
DropBy = Annotated[
    Literal["any", "majority", "all"],
    typer.Option(help="Leave out what one reviewer dropped, most, or all of those who judged it."),
]
Compression = Annotated[
    Literal["none", "zstd"],
    typer.Option(help="zstd makes shards smaller, for shipping; none lets readers map them."),
]

# How a source is read.
Format = Annotated[str, typer.Option(help="The rows' shape, where their columns do not tell.")]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Where things stand in a row: prompt=question,chosen=answers.0.text,rejected=…; or a YAML file of that.",
        show_default=False,
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(help="Leave a column of tools, images or the like unread; repeatable.", show_default=False),
]

# What loads a reward model.
Backend = Annotated[Literal["auto", "transformers", "vllm"], typer.Option(help="What runs a classifier.")]
Device = Annotated[str, typer.Option(help="auto, cuda, npu, cpu, or one device, say cuda:1.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Workers = Annotated[str, typer.Option(help="Processes, one a device: a number or auto.")]
MaxLength = Annotated[
    int | None, typer.Option(min=8, help="Tokens of query and response.", show_default="the model's window")
]
MaxResponse = Annotated[
    int | None, typer.Option(min=2, help="Tokens of a response.", show_default="half of --max-length")
]
TokenBudget = Annotated[
    int | None, typer.Option(min=64, help="Tokens in one forward pass.", show_default="the device's")
]
ScoringPath = Annotated[
    Literal["auto", "trees", "batches"],
    typer.Option(help="Share a query among its responses, or pad; auto checks what is exact."),
]
ChatTemplate = Annotated[str, typer.Option(help="auto (the model's own), hh, or a Jinja file.")]
TemplateArg = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE handed to the chat template, say enable_thinking=false.", show_default=False),
]
Thinking = Annotated[
    Literal["on", "off"] | None,
    typer.Option(help="Ask for a thought before the answer, or for none.", show_default="as the template has it"),
]
ScorePart = Annotated[
    Literal["answer", "whole"],
    typer.Option("--score", help="What of a response is scored: its answer alone, or its thought with it."),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE handed to the back end, say attn_implementation=eager.", show_default=False),
]
RewardBase = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="The model of a reward adapter that names a folder or none: a path is followed only where you name it.",
        show_default="the hub's that the adapter names, or the one that `fit` trained it on here",
    ),
]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]


def reward_spec(model: str, model_arg: list[str] | None, field: str = "model_args", **options: Any) -> RewardModelSpec:
    """The reward model that the options name; `options` are the other fields of `RewardModelSpec`."""
    from neat_data.models.reward_model import RewardModelSpec

    return RewardModelSpec(model=model, model_args=model_arguments(model_arg or [], field), **options)


def open_dataset(path: str, drop_by: DropBy = "any") -> PreferenceDataset:
    """The dataset at `path`; says so where it is not finished."""
    import neat_data

    opened = neat_data.open(path, drop_by=drop_by)
    if not opened.complete:
        typer.echo(f"{path} is not finished: only the shards committed so far are read", err=True)
    return opened


def print_json(value: dict[str, Any]) -> None:
    """One whole object, escaped where the terminal's encoding has no place for a letter."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    sys.stdout.write(f"{text}\n")


def stdout() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def watcher(quiet: bool) -> Iterator[Watcher]:
    from rich.console import Console

    from neat_data.progress import Silent, TerminalWatcher

    if quiet:
        yield Silent()
        return
    with TerminalWatcher(Console(stderr=True, highlight=False)) as watch:
        yield watch


def worker_count(text: str) -> int:
    """`auto` is 0: one process for every device."""
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--workers takes a number from 1, or auto, not {text!r}")
    return int(text)
