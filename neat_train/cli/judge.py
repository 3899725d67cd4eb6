"""`neat-train judge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import (
    ChatTemplate,
    Device,
    Dtype,
    Json,
    Quiet,
    TrustRemoteCode,
    Where,
    print_json,
    stdout,
    watcher,
)
from neat_data.errors import InputError
from neat_data.models.arguments import model_arguments
from neat_train.cli.options import Base

if TYPE_CHECKING:
    from neat_train.judging.judge import Judgement

PRESETS = {"paper": 30}
DEFAULT_N = 300


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("judge")(judge_verb)


@verb
def judge_verb(
    a: Annotated[
        str,
        typer.Argument(
            help="A run, a model, chosen, rejected, or DATASET:chosen, DATASET:rejected.", show_default=False
        ),
    ],
    b: Annotated[str, typer.Argument(help="What it is compared with.", show_default=False)],
    judge: Annotated[
        str,
        typer.Option(
            help="openai:NAME (or NAME with --base-url), anthropic:NAME, or a local model. Keys are read from "
            "OPENAI_API_KEY and ANTHROPIC_API_KEY.",
            show_default=False,
        ),
    ],
    queries: Annotated[
        str | None,
        typer.Option(help="What both are asked: a dataset or any source.", show_default="the DATASET of A or B"),
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Queries, drawn at random by --seed.", show_default=str(DEFAULT_N))
    ] = None,
    preset: Annotated[Literal["paper"] | None, typer.Option(help="paper: 30 queries.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Where the verdicts go.", show_default="A/judge/B-by-JUDGE")] = None,
    calibrate: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Pairs of chosen and rejected of the same queries that the judge is asked about first, at most --n.",
            show_default="as --n",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample of queries, and of the answers.")] = 0,
    where: Where = None,
    split: Annotated[
        str | None, typer.Option(help="Of --queries and DATASET, where they have some.", show_default="test")
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="What the judge is asked, as YAML.", show_default="the shipped one")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="The judge's server, else OPENAI_BASE_URL or ANTHROPIC_BASE_URL.", show_default=False),
    ] = None,
    judge_arg: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the judge: max_tokens, temperature, or what its API knows; repeatable."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions under way at once.")] = 8,
    retries: Annotated[int, typer.Option(min=0, help="Of a request, with a growing wait.")] = 6,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds that one request may take.")] = 600.0,
    prompt: Annotated[
        str, typer.Option(help="What A and B are asked under: none, positive, negative or one prompt of a set.")
    ] = "none",
    temperature: Annotated[float, typer.Option(min=0, help="Of the answers of A and B; 0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer of A or B.")] = 128,
    device: Device = "auto",
    dtype: Dtype = "auto",
    chat_template: ChatTemplate = "auto",
    trust_remote_code: TrustRemoteCode = False,
    base: Base = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a model judge which of two sides answers better, each pair in both orders.

    It is first asked about what people chose and rejected on the same queries, so that its agreement with people is
    known. The same command again goes on where an earlier one stopped, and asks again what the judge did not take.
    """
    if preset is not None and n is not None:
        raise InputError(f"--preset {preset} says --n {PRESETS[preset]}: leave one of the two out")
    from neat_train.judging.clients.client import JudgeSpec
    from neat_train.judging.judge import JudgeRequest
    from neat_train.judging.judge import judge as compare
    from neat_train.judging.prompt import DEFAULT
    from neat_train.judging.sides import Answering

    local: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
        "base": base,
    }
    spec = JudgeSpec(
        judge,
        base_url=base_url,
        concurrency=concurrency,
        retries=retries,
        timeout=timeout,
        args=model_arguments(judge_arg or [], "judge_args"),
        **local,
    )
    request = JudgeRequest(
        a=a,
        b=b,
        judge=spec,
        queries=queries,
        where=where,
        split=split,
        n=n or (DEFAULT_N if preset is None else PRESETS[preset]),
        seed=seed,
        calibrate=calibrate,
        prompt_file=prompt_file or DEFAULT,
        out=out,
        answering=Answering(prompt, temperature, seed, max_new_tokens, {"chat_template": chat_template, **local}),
    )
    with watcher(quiet) as watch:
        found = compare(request, watch)
    if json_:
        print_json(found.to_dict())
    elif not quiet:
        _print(found)


def _print(found: Judgement) -> None:
    from neat_data.report.terminal import print_tables
    from neat_train.judging.terminal import tables

    show = stdout()
    if not found.asked:
        show.print("nothing was asked: every pair was judged before, or is the same text twice", markup=False)
    print_tables(tables(found.result), show)
    show.print(f"{found.out}/verdicts.jsonl holds every verdict", markup=False, soft_wrap=True)
