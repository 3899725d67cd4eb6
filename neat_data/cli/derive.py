"""The verbs that make something new of a finished dataset: `neat-data rescore` and `neat-data compact`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import (
    Backend,
    ChatTemplate,
    Compression,
    Dataset,
    Device,
    Dtype,
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
from neat_data.models.arguments import model_arguments


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("rescore")(rescore_verb)
    app.command("compact")(compact_verb)


@verb
def compact_verb(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The new dataset's folder.", show_default=False)],
    compression: Compression = "none",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fold rounds, human verdicts and scores into the base shards of a new dataset; its records read the same."""
    from neat_data.scoring.compact import compact

    with watcher(quiet) as watch:
        summary = compact(dataset, out, compression=None if compression == "none" else compression, watch=watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.terminal import print_compact_summary

        print_compact_summary(summary, stdout())


@verb
def rescore_verb(
    dataset: Dataset,
    reward_model: Annotated[
        str,
        typer.Option(
            help="A classifier, file.py:function, http://… or judge:MODEL, as in `score`.", show_default=False
        ),
    ],
    name: Annotated[str, typer.Option(help="What the scores are called: a plain word.", show_default=False)],
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
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a dataset's responses with a further reward model, beside its own rewards.

    The same command again goes on where an earlier one stopped, and scores what later rounds added. `--rank-by NAME`
    of the verbs that read then ranks by these scores.
    """
    from neat_data.scoring.rescore import RescoreRequest, rescore

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
    request = RescoreRequest(Path(dataset), name, spec, worker_count(workers))
    with watcher(quiet) as watch:
        summary = rescore(request, watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.terminal import print_rescore_summary

        print_rescore_summary(summary, stdout())
