"""`neat-train fit`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import (
    Dataset,
    Json,
    Quiet,
    RankBy,
    TemplateArg,
    Thinking,
    TrustRemoteCode,
    Where,
    print_json,
    stdout,
)
from neat_data.models.arguments import model_arguments
from neat_train.cli.options import Base
from neat_train.training.launch import launch, launched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from neat_train.losses.own import Own
    from neat_train.training.progress import TrainingProgress


_METHODS = (
    "neat, neat-pp, rrhf, rrhf-official, rrhf-online; of pairs dpo, ipo, hinge, dpop, simpo, alphapo, davidson; "
    "of lists list-dpo, infonca, nca, plackett-luce, d2o; of rewards rloo, grpo, rebel; sft; "
    "by TRL dpo-trl, sft-trl; or FILE.py:FUNCTION"
)


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("fit")(fit_verb)


@verb
def fit_verb(
    dataset: Dataset,
    policy: Annotated[
        str,
        typer.Option(
            help="What is trained: a causal LM (folder or hub id), or a run to go on from.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run folder; the same command goes on in it.", show_default=False)],
    method: Annotated[
        str | None,
        typer.Option(help=f"What it is trained by: {_METHODS}, a loss of your own.", show_default="neat"),
    ] = None,
    preset: Annotated[
        Literal["recommended", "paper"] | None,
        typer.Option(help="The objective's settings: ours, or the paper's to the letter.", show_default="recommended"),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file of settings; flags and --set win.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE, say loss.beta=0.2, rounds.queries=epoch or learning_rate=1e-4; repeatable. "
            "TrainingArguments of transformers have their own names.",
            show_default=False,
        ),
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option(help="What scores samples and held-out answers.", show_default="the one that scored the dataset"),
    ] = None,
    eval_data: Annotated[
        str | None,
        typer.Option(help="A dataset whose queries are held out.", show_default="2 % of the queries"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead of an adapter.")] = False,
    load_in_4bit: Annotated[bool, typer.Option("--load-in-4bit", help="Keep the policy in 4 bits (QLoRA).")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cuda, npu or cpu.", show_default="auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.", show_default="auto")] = None,
    chat_template: Annotated[
        str | None, typer.Option(help="auto (the model's own), hh, or a Jinja file.", show_default="auto")
    ] = None,
    thinking: Thinking = None,
    template_arg: TemplateArg = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the order, the samples and the adapter.", show_default="0")
    ] = None,
    report_to: Annotated[
        str | None, typer.Option(help="tensorboard, wandb, trackio or none.", show_default="none")
    ] = None,
    where: Where = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Records at most.", show_default=False)] = None,
    rank_by: RankBy = None,
    drop_by: Annotated[
        Literal["any", "majority", "all"] | None,
        typer.Option(
            help="Leave out what one reviewer dropped, most, or all of those who judged it.", show_default="any"
        ),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the policy, say attn_implementation=eager.", show_default=False),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    base: Base = None,
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine, one a device.")] = 1,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a policy on a dataset, sampling and scoring new responses on the way where the method does.

    The same command again goes on where an earlier one stopped. Exit status 3: the run diverged and was stopped.
    """
    from neat_train.config.reading import read_settings

    options: dict[str, Any] = {
        "method": method,
        "rounds.reward_model": reward_model,
        "held_out.data": eval_data,
        "full": full or None,
        "load_in_4bit": load_in_4bit or None,
        "device": device,
        "dtype": dtype,
        "chat_template": chat_template,
        "thinking": thinking,
        "template_args": model_arguments(template_arg or [], "template_args") or None,
        "seed": seed,
        "report_to": report_to,
        "where": where,
        "limit": limit,
        "rank_by": rank_by,
        "drop_by": drop_by,
        "model_args": model_arguments(model_arg or []) or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    own = _own(given)
    chosen = read_settings(settings, given, set_ or (), preset or "", own.settings if own else None)
    if nproc > 1 and not launched():
        if status := launch([sys.executable, "-m", "neat_train", *sys.argv[1:]], nproc):
            sys.exit(status)
        return
    from neat_train.fitting import FitRequest, fit

    with _progress(quiet) as watch:
        summary = fit(FitRequest(dataset, policy, out, chosen, trust_remote_code, base, own), watch)
    if not _last_together():
        return
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_train.reports.summary import print_fit_summary

        print_fit_summary(summary.run, summary.result, stdout(), already=summary.already)


def _own(options: dict[str, Any]) -> Own | None:
    """The user's loss, where `--method` names a file; it is taken out of the options."""
    if ".py:" not in options.get("method", ""):
        return None
    from neat_train.losses.own import load_own

    return load_own(options.pop("method"))


@contextmanager
def _progress(quiet: bool) -> Iterator[TrainingProgress]:
    from rich.console import Console

    from neat_train.training.progress import TrainingProgress

    with TrainingProgress(None if quiet else Console(stderr=True, highlight=False)) as watch:
        yield watch


def _last_together() -> bool:
    """Let go of the other ranks; whether this is the main one."""
    from neat_train.distributed import Ranks

    ranks = Ranks.here()
    ranks.leave()
    return ranks.main
