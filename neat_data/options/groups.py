"""Options that several verbs share, each group a class to derive from. What stands alone in several is an alias."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from neat_data.options.option import Argument, Option
from neat_data.options.words import Backend, DropBy, Engine, Part, ScoringPath, Thinking
from neat_data.options.words import Compression as CompressionWord

if TYPE_CHECKING:
    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.store.dataset import PreferenceDataset

Dataset = Union[str, Path, "PreferenceDataset"]
RewardModel = Union[str, Path, "RewardModelSpec"]

Where = Annotated[str | None, Option("A SQL expression over the record, say `gap_abs < 1.0`.")]
KeepPairs = Annotated[
    str | None,
    Option(
        "Keep the records whose pairs a strategy takes first, a share or a number of them: large-gap:0.5, small-gap, "
        "middle-gap, agree, disagree (all models, of two or more), or random:2000, the control. small-gap@NAME goes by "
        "the scores that `rescore` called NAME."
    ),
]
RankBy = Annotated[
    str | None,
    Option(
        "Rank by another reward model's scores: a NAME that `rescore` wrote; mean or min over all of them, "
        "standardised; mean:A,B over these."
    ),
]
DropByOption = Annotated[
    DropBy | None,
    Option(
        "Leave out what one reviewer dropped, most, or all of those who judged it.",
        unset="any, or as the dataset was opened",
    ),
]
Compression = Annotated[CompressionWord, Option("zstd makes shards smaller, for shipping; none lets readers map them.")]
ThinkingOption = Annotated[
    Thinking | None, Option("Ask for a thought before the answer, or for none.", unset="as the template has it")
]
Refusal = Annotated[str | None, Option("A regular expression for what counts as a refusal.", unset="English openings")]


@dataclass(frozen=True, kw_only=True)
class OfDataset:
    """The dataset that a verb reads or adds to."""

    dataset: Annotated[Dataset, Argument("A dataset that `neat-data score` wrote: its folder, or a URL.")] = field(
        kw_only=False
    )


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Whether somebody follows."""

    progress: Annotated[bool, Option("Whether to show a bar.", typed=False)] = True


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where shards are made, and by how many."""

    workers: Annotated[
        int | Literal["auto"], Option("Processes, one a device: a number, or auto for one on every device.")
    ] = 1
    engine: Annotated[Engine, Option("local: this machine; ray: a cluster, each of {workers} an actor of its.")] = (
        "local"
    )
    gpus_per_worker: Annotated[
        float | None,
        Option("Devices that a worker of Ray holds; parts are shared.", min=0, unset="1 where there are any"),
    ] = None
    ray_address: Annotated[
        str | None,
        Option("Of a Ray cluster, host:port or auto.", unset="RAY_ADDRESS, else a Ray of this machine's own"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a source is read."""

    subset: Annotated[str | None, Option("A subset or folder of a hub dataset.")] = None
    split: Annotated[
        str | None, Option("Of a hub dataset or folder: train, test, …, all.", unset="train, where there is one")
    ] = None
    format: Annotated[str, Option("The rows' shape, where their columns do not tell.")] = "auto"
    columns: Annotated[
        str | Path | Mapping[str, str] | None,
        Option(
            "Where things stand in a row: prompt=question,chosen=answers.0.text,rejected=…; or a YAML file of that."
        ),
    ] = None
    ignore: Annotated[
        str | Iterable[str], Option("Columns of tools, images or the like that are left unread; repeatable.")
    ] = ()


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where a model runs."""

    device: Annotated[str, Option("auto, cuda, npu, cpu, or one device, say cuda:1.")] = "auto"
    dtype: Annotated[str, Option("auto, float32, bfloat16 or float16.")] = "auto"


@dataclass(frozen=True, kw_only=True)
class Loading(Running):
    """How a model is loaded."""

    chat_template: Annotated[str, Option("auto (the model's own), hh, or a Jinja file.")] = "auto"
    trust_remote_code: Annotated[bool, Option("Run code that comes with the model.")] = False


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """What chat template and back end take beside."""

    template_args: Annotated[
        Mapping[str, Any] | None,
        Option("KEY=VALUE handed to the chat template, say enable_thinking=false.", flag="--template-arg"),
    ] = None
    model_args: Annotated[
        Mapping[str, Any] | None,
        Option("KEY=VALUE handed to the back end, say attn_implementation=eager.", flag="--model-arg"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Base:
    """What an adapter needs."""

    base: Annotated[
        str | Path | None,
        Option(
            "The model of an adapter that names a folder or none: a path is followed only where you name it.",
            unset="the hub's that the adapter names, or the one that `fit` trained it on here",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RewardLoading(Loading, ModelArguments, Base):
    """How a reward model is loaded, and on what it runs."""

    backend: Annotated[Backend, Option("What runs a classifier.")] = "auto"
    max_length: Annotated[int | None, Option("Tokens of query and response.", min=8, unset="the model's window")] = None
    max_response: Annotated[int | None, Option("Tokens of a response.", min=2, unset="half of {max_length}")] = None
    token_budget: Annotated[int | None, Option("Tokens in one forward pass.", min=64, unset="the device's")] = None
    score: Annotated[Part, Option("What of a response is scored: its answer alone, or its thought with it.")] = "answer"
    path: Annotated[ScoringPath, Option("Share a query among its responses, or pad; auto checks what is exact.")] = (
        "auto"
    )


@dataclass(frozen=True, kw_only=True)
class SamplerLoading(Loading, ModelArguments):
    """How a policy that answers is loaded, and on what it runs."""

    base_url: Annotated[
        str | None,
        Option("An OpenAI-compatible server, or several with commas between; their key is read from OPENAI_API_KEY."),
    ] = None
    adapter: Annotated[str | Path | None, Option("A PEFT adapter of the policy.")] = None
    max_length: Annotated[
        int | None, Option("Tokens of prompt, query and response.", min=8, unset="the policy's window")
    ] = None
    token_budget: Annotated[int | None, Option("Tokens of one batch of the policy.", min=64, unset="the device's")] = (
        None
    )
    concurrency: Annotated[int, Option("Requests in flight at each server.", min=1)] = 8
    thinking: ThinkingOption = None


@dataclass(frozen=True, kw_only=True)
class Admitting:
    """Which responses become a dataset's, and what scores them."""

    min_tokens: Annotated[int, Option("Drop shorter responses.", min=0)] = 0
    drop: Annotated[
        str | Iterable[str],
        Option("Drop these as well as empty and repeated ones: unfinished, cut, refusal; repeatable."),
    ] = ()
    keep: Annotated[
        str | None, Option("Keep the responses this SQL expression is true for, say `reward < rejected`.")
    ] = None
    refusal: Refusal = None
    reward_model: Annotated[
        RewardModel | None, Option("What scores, as in `score`.", unset="the one that scored the dataset")
    ] = None
    reward_args: Annotated[Mapping[str, Any] | None, Option("KEY=VALUE for {reward_model}.", flag="--reward-arg")] = (
        None
    )
    mix_rewards: Annotated[bool, Option("Score with another model than the dataset was scored with.")] = False
