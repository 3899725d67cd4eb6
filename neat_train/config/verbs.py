"""The options of each verb of `neat-train`. A new option is a field here, or of a group in `neat_data.options`.

What `fit` can be told beside these are its settings (`settings.py`); those that have a flag of their own are declared
here, so that `--help` loads no pydantic, and are fields of the settings by inheritance.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from neat_data.options.groups import (
    Base,
    Dataset,
    KeepPairs,
    Loading,
    ModelArguments,
    OfDataset,
    RankBy,
    Refusal,
    ThinkingOption,
    Watched,
    Where,
    Workers,
)
from neat_data.options.option import Argument, Option
from neat_data.options.words import DropBy

if TYPE_CHECKING:
    from transformers import TrainerCallback

METHOD = Option(
    "What it is trained by: neat, neat-pp, rrhf, rrhf-official, rrhf-online; of pairs dpo, ipo, hinge, dpop, simpo, "
    "alphapo, davidson; of lists list-dpo, infonca, nca, plackett-luce, d2o; of rewards rloo, grpo, rebel; sft; by TRL "
    "dpo-trl, sft-trl; reward, a reward model from labels that begins as the policy; or FILE.py:FUNCTION, a loss of "
    "your own.",
    unset="neat",
)
REWARD_MODEL = Option("What scores samples and held-out answers.", unset="the one that scored the dataset")
HELD_OUT = Option("A dataset whose queries are held out.", unset="2 % of the queries")


@dataclass(kw_only=True)
class Flagged:
    """The settings of a run that have a flag of their own."""

    full: Annotated[bool, Option("Train all weights instead of an adapter.")] = False
    load_in_4bit: Annotated[bool, Option("Keep the policy's weights in 4 bits (QLoRA).")] = False
    device: Annotated[str, Option("auto, cuda, npu or cpu.")] = "auto"
    dtype: Annotated[str, Option("auto, float32, bfloat16 or float16, of the policy's weights.")] = "auto"
    chat_template: Annotated[str, Option("auto (the policy's own), hh, or a Jinja file.")] = "auto"
    thinking: ThinkingOption = None
    template_args: Annotated[
        Mapping[str, Any],
        Option("KEY=VALUE handed to the chat template, say enable_thinking=false.", flag="--template-arg"),
    ] = field(default_factory=dict)
    where: Where = None
    limit: Annotated[int | None, Option("Records at most.", min=1)] = None
    keep_pairs: KeepPairs = None
    labels: Annotated[
        Literal["source", "reviews"],
        Option("Whose preferences: the source's, or what reviewers said, dropped responses as rejected ones."),
    ] = "source"
    rank_by: RankBy = None
    drop_by: Annotated[DropBy, Option("Leave out what one reviewer dropped, most, or all of those who judged it.")] = (
        "any"
    )
    model_args: Annotated[
        Mapping[str, Any], Option("KEY=VALUE for the policy, say attn_implementation=eager.", flag="--model-arg")
    ] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fit(OfDataset, Base, Watched):
    """Of `fit`, beside the settings of the run."""

    policy: Annotated[str | Path, Option("What is trained: a causal LM (folder or hub id), or a run to go on from.")]
    out: Annotated[str | Path, Option("The run folder; the same command goes on in it.", metavar="<path>")]
    method: Annotated[str | None, METHOD] = None
    pairs: Annotated[
        Literal["chosen", "best-worst", "mu-2sigma", "random", "all"] | None,
        Option(
            "Which pair of a record a method of pairs learns from: people's (chosen), or by rewards best-worst, "
            "mu-2sigma (the best and what lies two standard deviations below the mean), random (any two) or all.",
            unset="chosen",
        ),
    ] = None
    preset: Annotated[
        Literal["recommended", "paper"] | None,
        Option("The objective's settings: ours, or the paper's to the letter.", unset="recommended"),
    ] = None
    settings: Annotated[
        str | Path | None, Option("YAML file of settings; what is said beside it wins.", metavar="<path>")
    ] = None
    reward_model: Annotated[str | Path | None, REWARD_MODEL] = None
    eval_data: Annotated[str | Path | None, HELD_OUT] = None
    trust_remote_code: Annotated[bool, Option("Run code that comes with the policy.")] = False
    callbacks: Annotated[
        Sequence["TrainerCallback"],
        Option("Of transformers, beside those that write the run's metrics.", typed=False),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluate(Loading, ModelArguments, Base, Workers, Watched):
    """Of `eval`."""

    model: Annotated[str | Path, Argument("A run, one of its checkpoints, a model's folder or a hub id.")] = field(
        kw_only=False
    )
    queries: Annotated[
        Dataset,
        Option(
            "What is asked: a dataset, a file, folder, glob or hub id of preference data or of bare queries.",
        ),
    ] = field(kw_only=False)
    reward_models: Annotated[
        str | Path | Iterable[str | Path],
        Option(
            "What scores the answers, MODEL or NAME=MODEL; repeatable. Beside the one that trained, give one that did "
            "not. One that scored the run's dataset or the queries is loaded with the settings that it had.",
            flag="--reward-model",
        ),
    ] = ()
    reward_templates: Annotated[
        str | Iterable[str],
        Option(
            "The chat template of reward models: auto, hh or a Jinja file; NAME=… for the one called NAME.",
            unset="as it scored before, else auto",
            flag="--reward-template",
        ),
    ] = ()
    reward_args: Annotated[
        str | Iterable[str],
        Option(
            "KEY=VALUE handed to reward models, say base_url=http://…; NAME=KEY=VALUE to the one called NAME.",
            flag="--reward-arg",
        ),
    ] = ()
    out: Annotated[
        str | Path | None,
        Option(
            "Where the figures go; the same command goes on there.",
            unset="RUN/eval/[CHECKPOINT/]QUERIES",
            metavar="<path>",
        ),
    ] = None
    prompt: Annotated[str, Option("What stands around a query: none, positive, neat:NAME, or FILE:NAME.")] = "none"
    negative: Annotated[str, Option("The prompt whose answers show whether the policy still obeys it.")] = "negative"
    start: Annotated[
        str | Path | None,
        Option("The policy that KL is measured from.", unset="the one that the run began from"),
    ] = None
    seed: Annotated[int, Option("Of the answers at temperature 1.")] = 0
    where: Where = None
    limit: Annotated[int | None, Option("Queries at most.", min=1)] = None
    subset: Annotated[str | None, Option("One subset of the queries.")] = None
    split: Annotated[str | None, Option("Of a folder or a hub dataset.", unset="test")] = None
    format: Annotated[str, Option("The shape of the queries' rows.")] = "auto"
    max_new_tokens: Annotated[int, Option("Tokens of an answer at most.", min=1)] = 128
    shard_rows: Annotated[int, Option("Queries a shard, the unit of work.", min=1)] = 256
    thinking: ThinkingOption = None
    refusal: Refusal = None
    max_length: Annotated[
        int | None, Option("Tokens of query and answer.", min=8, unset="the model's window, 4096 at most")
    ] = None
    token_budget: Annotated[int | None, Option("Tokens of one batch of answers.", min=64, unset="the device's")] = None


@dataclass(frozen=True, kw_only=True)
class Judge(Loading, Base, Watched):
    """Of `judge`."""

    a: Annotated[str | Path, Argument("A run, a model, chosen, rejected, or DATASET:chosen, DATASET:rejected.")] = (
        field(kw_only=False)
    )
    b: Annotated[str | Path, Argument("What it is compared with.")] = field(kw_only=False)
    judge: Annotated[
        str | Path,
        Option(
            "openai:NAME (or NAME with {base_url}), anthropic:NAME, or a local model. Keys are read from "
            "OPENAI_API_KEY and ANTHROPIC_API_KEY."
        ),
    ]
    queries: Annotated[
        Dataset | None,
        Option("What both are asked: a dataset or any source.", unset="the DATASET of {a} or {b}"),
    ] = None
    n: Annotated[int | None, Option("Queries, drawn at random by {seed}.", min=1, unset="300")] = None
    preset: Annotated[Literal["paper"] | None, Option("paper: 30 queries.")] = None
    out: Annotated[
        str | Path | None, Option("Where the verdicts go.", unset="A/judge/B-by-JUDGE", metavar="<path>")
    ] = None
    calibrate: Annotated[
        int | None,
        Option(
            "Pairs of chosen and rejected of the same queries that the judge is asked about first, at most {n}.",
            min=0,
            unset="as {n}",
        ),
    ] = None
    seed: Annotated[int, Option("Of the sample of queries, and of the answers.")] = 0
    where: Where = None
    split: Annotated[str | None, Option("Of {queries} and DATASET, where they have some.", unset="test")] = None
    prompt_file: Annotated[
        str | Path | None, Option("What the judge is asked, as YAML.", unset="the shipped question", metavar="<path>")
    ] = None
    base_url: Annotated[
        str | None,
        Option("The judge's server, or several with commas between, else OPENAI_BASE_URL or ANTHROPIC_BASE_URL."),
    ] = None
    judge_args: Annotated[
        Mapping[str, Any] | None,
        Option("KEY=VALUE for the judge: max_tokens, temperature, or what its API knows.", flag="--judge-arg"),
    ] = None
    concurrency: Annotated[int, Option("Questions under way at once, at each server.", min=1)] = 8
    retries: Annotated[int, Option("Of a request, with a growing wait.", min=0)] = 6
    timeout: Annotated[float, Option("Seconds that one request may take.", min=0.01)] = 600.0
    prompt: Annotated[
        str, Option("What {a} and {b} are asked under: none, positive, negative or one prompt of a set.")
    ] = "none"
    temperature: Annotated[float, Option("Of the answers of {a} and {b}; 0 is greedy.", min=0)] = 0.0
    max_new_tokens: Annotated[int, Option("Tokens of an answer of {a} or {b}.", min=1)] = 128


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How runs are set beside each other."""

    evaluation: Annotated[
        str | None, Option("Which evaluation: RUN/eval/NAME.", unset="the one there is", flag="--eval")
    ] = None
    judged: Annotated[
        str | Path | Iterable[str | Path],
        Option("A judge.json, or the folder that neat-train judge wrote; repeatable.", flag="--judge"),
    ] = ()
    hypotheses: Annotated[
        Sequence[tuple[str, str]] | None,
        Option(
            "Pairs (worse, better) of names, tested in reward with Holm's correction.",
            unset="each is better than the one before it",
            typed=False,
        ),
    ] = None
    markdown: Annotated[str | Path | None, Option("Write the tables as Markdown.", metavar="<path>")] = None
    report: Annotated[
        str | Path | None, Option("Write an HTML page with tables, curves and answers.", metavar="<path>")
    ] = None
    plots: Annotated[str | Path | None, Option("Write the pictures into this folder.", metavar="<path>")] = None


@dataclass(frozen=True, kw_only=True)
class Compare(Comparing):
    """Of `compare`."""

    runs: Annotated[
        Mapping[str, str | Path | Iterable[str | Path]],
        Argument("By name: a run that `eval` measured, the folder of an evaluation, or several, the seeds of one arm."),
    ] = field(kw_only=False)


@dataclass(frozen=True, kw_only=True)
class Export(Base, Watched):
    """Of `export`."""

    run: Annotated[str | Path, Argument("A run's folder, or one of its checkpoints.")] = field(kw_only=False)
    merge: Annotated[bool, Option("Write one model: the adapter added to its base.")] = False
    out: Annotated[str | Path | None, Option("Where the merged model goes.", metavar="<path>")] = None
    dtype: Annotated[
        str | None, Option("Of the merged weights: float32, bfloat16 or float16.", unset="the base model's")
    ] = None
    device: Annotated[str, Option("What merges: auto, cuda, npu or cpu.")] = "auto"
    push_to_hub: Annotated[str | None, Option("Upload the model to this repository.")] = None
    public: Annotated[bool, Option("Make the repository public.")] = False
    trust_remote_code: Annotated[bool, Option("Run code that comes with the base.")] = False
