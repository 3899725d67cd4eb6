"""`neat-train eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import (
    ChatTemplate,
    Device,
    Dtype,
    Json,
    ModelArg,
    Quiet,
    TemplateArg,
    Thinking,
    TrustRemoteCode,
    Where,
    print_json,
    stdout,
    watcher,
)
from neat_data.models.arguments import model_arguments
from neat_train.cli.options import Base


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("eval")(eval_verb)


@verb
def eval_verb(
    subject: Annotated[
        str,
        typer.Argument(help="A run, one of its checkpoints, a model's folder or a hub id.", show_default=False),
    ],
    queries: Annotated[
        str,
        typer.Option(
            help="What is asked: a dataset, a file, folder, glob or hub id of preference data or of bare queries.",
            show_default=False,
        ),
    ],
    reward_model: Annotated[
        list[str] | None,
        typer.Option(
            help="What scores the answers, MODEL or NAME=MODEL; repeatable. Beside the one that trained, give one that "
            "did not. One that scored the run's dataset or the queries is loaded with the settings that it had.",
            show_default=False,
        ),
    ] = None,
    reward_template: Annotated[
        list[str] | None,
        typer.Option(
            help="The chat template of reward models: auto, hh or a Jinja file; NAME=… for the one called NAME.",
            show_default="as it scored before, else auto",
        ),
    ] = None,
    reward_arg: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE handed to reward models, say base_url=http://…; NAME=KEY=VALUE to the one called NAME.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the figures go; the same command goes on there.", show_default="RUN/eval/[CHECKPOINT/]QUERIES"
        ),
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="What stands around a query: none, positive, neat:NAME, or FILE:NAME.")
    ] = "none",
    negative: Annotated[
        str, typer.Option(help="The prompt whose answers show whether the policy still obeys it.")
    ] = "negative",
    start: Annotated[
        str | None,
        typer.Option(help="The policy that KL is measured from.", show_default="the one that the run began from"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the answers at temperature 1.")] = 0,
    where: Where = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Queries at most.", show_default=False)] = None,
    subset: Annotated[str | None, typer.Option(help="One subset of the queries.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Of a folder or a hub dataset.", show_default="test")] = None,
    format: Annotated[str, typer.Option(help="The shape of the queries' rows.")] = "auto",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 128,
    refusal: Annotated[
        str | None,
        typer.Option(
            help="A regular expression that tells a refusal by its first 200 characters.",
            show_default="English ones",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(min=8, help="Tokens of query and answer.", show_default="the model's window, 4096 at most"),
    ] = None,
    token_budget: Annotated[
        int | None, typer.Option(min=64, help="Tokens of one batch of answers.", show_default="the device's")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    chat_template: ChatTemplate = "auto",
    thinking: Thinking = None,
    template_arg: TemplateArg = None,
    model_arg: ModelArg = None,
    trust_remote_code: TrustRemoteCode = False,
    base: Base = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a run or a model: perplexity, rewards of its answers, KL from its start, length, diversity, harm.

    The same command again goes on where an earlier one stopped, and shows the figures where it did not.
    """
    from neat_data.rounds.candidates import REFUSAL
    from neat_train.evaluation.evaluate import EvalRequest, evaluate

    request = EvalRequest(
        subject=subject,
        queries=queries,
        rewards=tuple(reward_model or ()),
        out=out,
        prompt=prompt,
        negative=negative,
        start=start,
        seed=seed,
        where=where,
        limit=limit,
        subset=subset,
        split=split,
        format=format,
        max_new_tokens=max_new_tokens,
        refusal=REFUSAL if refusal is None else refusal,
        device=device,
        dtype=dtype,
        chat_template=chat_template,
        thinking=thinking,
        template_args=model_arguments(template_arg or [], "template_args"),
        max_length=max_length,
        token_budget=token_budget,
        model_args=model_arguments(model_arg or []),
        trust_remote_code=trust_remote_code,
        base=base,
        reward_templates=tuple(reward_template or ()),
        reward_args=tuple(reward_arg or ()),
    )
    with watcher(quiet) as watch:
        summary = evaluate(request, watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_train.evaluation.terminal import print_eval_summary

        print_eval_summary(summary.out, summary.result, stdout(), already=summary.already)
