"""`neat-data expand`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from neat_data.arguments import column_places
from neat_data.cli.command import verb
from neat_data.cli.options import (
    ChatTemplate,
    Columns,
    Device,
    Dtype,
    Ignore,
    Json,
    ModelArg,
    Quiet,
    TemplateArg,
    Thinking,
    TrustRemoteCode,
    Where,
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
    app.command("expand")(expand_verb)


@verb
def expand_verb(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder; it gets a new round.", show_default=False)],
    policy: Annotated[
        str | None,
        typer.Option(
            help="What answers: a causal LM (folder or hub id), or its name at --base-url.", show_default=False
        ),
    ] = None,
    prompts: Annotated[
        str,
        typer.Option(help="neat, plain, or a YAML file; a part of it behind a colon, say neat:negative."),
    ] = "neat",
    responses: Annotated[
        str | None,
        typer.Option(help="Take responses from this file, folder or hub id instead of sampling.", show_default=False),
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Responses to each query under each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Sample among the likeliest tokens of this probability together.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a response.")] = 128,
    seed: Annotated[int, typer.Option(help="Another seed makes another round.")] = 0,
    where: Where = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Queries at most.", show_default=False)] = None,
    min_tokens: Annotated[int, typer.Option(min=0, help="Drop shorter responses.")] = 0,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="Drop these as well as empty and repeated ones: unfinished, cut, refusal; repeatable.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Keep the responses this SQL expression is true for, say `reward < rejected`."),
    ] = None,
    refusal: Annotated[
        str | None,
        typer.Option(help="A regular expression for what counts as a refusal.", show_default="a list of openings"),
    ] = None,
    sampler: Annotated[
        Literal["auto", "transformers", "vllm", "openai"], typer.Option(help="What runs the policy.")
    ] = "auto",
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server; its key is read from OPENAI_API_KEY.", show_default=False),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight at the server.")] = 8,
    adapter: Annotated[str | None, typer.Option(help="A PEFT adapter of the policy.", show_default=False)] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    workers: Workers = "1",
    max_length: Annotated[
        int | None,
        typer.Option(min=8, help="Tokens of prompt, query and response.", show_default="the policy's window"),
    ] = None,
    token_budget: Annotated[
        int | None, typer.Option(min=64, help="Tokens of one batch of the policy.", show_default="the device's")
    ] = None,
    chat_template: ChatTemplate = "auto",
    thinking: Thinking = None,
    template_arg: TemplateArg = None,
    model_arg: ModelArg = None,
    trust_remote_code: TrustRemoteCode = False,
    reward_model: Annotated[
        str | None,
        typer.Option(help="What scores, as in `score`.", show_default="the one that scored the dataset"),
    ] = None,
    reward_arg: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for --reward-model.", show_default=False)
    ] = None,
    mix_rewards: Annotated[
        bool, typer.Option("--mix-rewards", help="Score with another model than the dataset was scored with.")
    ] = False,
    phase: Annotated[
        Literal["both", "sample", "score"],
        typer.Option(help="Stop after sampling, or score what was sampled before."),
    ] = "both",
    format: Annotated[str, typer.Option(help="The shape of --responses, where its columns do not tell.")] = "auto",
    columns: Columns = None,
    ignore: Ignore = None,
    split: Annotated[str | None, typer.Option(help="The split of --responses.", show_default=False)] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add responses to a dataset, sampled under prompts and scored, as a new round.

    The same command again goes on where an earlier one stopped; another seed or setting makes the next round.
    """
    from neat_data.models.sampler import SamplerSpec, Sampling
    from neat_data.prompts.sets import load_prompts
    from neat_data.rounds.add_responses import GivenRequest, take
    from neat_data.rounds.candidates import REFUSAL, Rules
    from neat_data.rounds.expand import ExpandRequest, expand
    from neat_data.rounds.finish import Scoring
    from neat_data.rounds.sampling import Draws

    _refuse_contradictions(policy, responses, phase, reward_model, reward_arg)
    scoring = Scoring(
        rules=Rules(min_tokens, tuple(sorted(set(drop or ()))), keep, refusal or REFUSAL),
        reward=reward_spec(reward_model, reward_arg, "reward_args", device=device) if reward_model else None,
        device=device,
        mix=mix_rewards,
        workers=worker_count(workers),
    )
    with watcher(quiet) as watch:
        if responses is not None:
            given = GivenRequest(
                dataset,
                responses,
                split=split,
                format=format,
                columns=column_places(columns),
                ignore=tuple(ignore or ()),
                scoring=scoring,
                limit=limit,
            )
            summary = take(given, watch)
        else:
            spec = None
            if policy is not None:
                spec = SamplerSpec(
                    model=policy,
                    backend=sampler,
                    base_url=base_url,
                    adapter=adapter,
                    device=device,
                    dtype=dtype,
                    max_length=max_length,
                    token_budget=token_budget,
                    chat_template=chat_template,
                    thinking=thinking,
                    template_args=model_arguments(template_arg or [], "template_args"),
                    concurrency=concurrency,
                    model_args=model_arguments(model_arg or []),
                    trust_remote_code=trust_remote_code,
                )
            draws = Draws(load_prompts(prompts), Sampling(temperature, top_p, max_new_tokens), num_samples, seed)
            summary = expand(
                ExpandRequest(dataset, spec, draws, scoring, where, limit, phase, worker_count(workers)), watch
            )
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        from neat_data.report.terminal import print_grow_summary

        print_grow_summary(summary, stdout())


def _refuse_contradictions(
    policy: str | None, responses: str | None, phase: str, reward_model: str | None, reward_arg: list[str] | None
) -> None:
    if responses is not None and (policy is not None or phase != "both"):
        raise InputError("--responses brings the responses; leave out --policy and --phase")
    if responses is None and (policy is None) == (phase != "score"):
        raise InputError("say --policy MODEL, --responses FILE, or --phase score alone, for what was sampled before")
    if reward_arg and reward_model is None:
        raise InputError("--reward-arg goes with --reward-model")
