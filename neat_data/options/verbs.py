"""The options of each verb that Python has, too. A new option is a field here, or of a group in `groups`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

from neat_data.options.groups import (
    Admitting,
    Compression,
    DropByOption,
    KeepPairs,
    OfDataset,
    RankBy,
    Reading,
    RewardLoading,
    RewardModel,
    Running,
    SamplerLoading,
    Watched,
    Where,
    Workers,
)
from neat_data.options.option import Argument, Option
from neat_data.options.words import Form, PairsOf, Phase, RescorePhase, Rewards, SamplerBackend, ScorePhase

if TYPE_CHECKING:
    from neat_data.models.sampler import SamplerSpec
    from neat_data.prompts.sets import PromptSet


@dataclass(frozen=True, kw_only=True)
class Score(Reading, RewardLoading, Workers, Watched):
    """Of `score`."""

    source: Annotated[
        str | Path, Argument("A file, folder or glob, here or at a URL (s3://…), or a hub id (ID@REV).")
    ] = field(kw_only=False)
    out: Annotated[str | Path, Option("The dataset's folder, or its URL: s3://, gs://, az://.", metavar="<path>")]
    reward_model: Annotated[
        RewardModel | None,
        Option(
            "What scores: a sequence classifier with one output or its adapter (folder or hub id), file.py:function, "
            "http://…, or judge:MODEL."
        ),
    ] = None
    rewards: Annotated[Rewards, Option("`given` keeps the rewards that the source carries.")] = "model"
    exclude: Annotated[
        str | Path | Iterable[str | Path],
        Option("Leave out queries that occur in this dataset or source; repeatable."),
    ] = ()
    shard_rows: Annotated[
        int | None,
        Option("Source rows a shard, the unit of work.", min=1, unset="512; more for over a million rows"),
    ] = None
    compression: Compression = "none"
    limit: Annotated[int | None, Option("Source rows read at most.", min=1)] = None
    phase: Annotated[
        ScorePhase, Option("plan: read the source and stop; finish: complete what jobs made with {shards}.")
    ] = "all"
    shards: Annotated[
        str | None, Option("Make these shards of the plan, say 0-99 or 3,17-19, on any machine that sees {out}.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Rescore(OfDataset, RewardLoading, Workers, Watched):
    """Of `rescore`."""

    reward_model: Annotated[
        RewardModel,
        Option("A classifier, file.py:function, http://…, judge:MODEL, or implicit:RUN, a policy's own log-ratios."),
    ]
    name: Annotated[str, Option("What the scores are called: a plain word.")]
    phase: Annotated[RescorePhase, Option("finish: enter what jobs made with {shards}; no model is loaded.")] = "all"
    shards: Annotated[
        str | None,
        Option("Score these shards, counted through all rounds, say 0-99, on any machine that sees {dataset}."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Expand(OfDataset, Admitting, SamplerLoading, Workers, Watched):
    """Of `expand`."""

    policy: Annotated[
        Union[str, Path, "SamplerSpec", None],
        Option("What answers: a causal LM (folder or hub id), or its name at {base_url}."),
    ] = None
    prompts: Annotated[
        Union[str, Path, "PromptSet"],
        Option("neat, plain, or a YAML file; a part of it behind a colon, say neat:negative."),
    ] = "neat"
    num_samples: Annotated[int, Option("Responses to each query under each prompt.", min=1)] = 1
    temperature: Annotated[float, Option("0 is greedy.", min=0)] = 1.0
    top_p: Annotated[float, Option("Sample among the likeliest tokens of this probability together.")] = 1.0
    max_new_tokens: Annotated[int, Option("Tokens of a response.", min=1)] = 128
    seed: Annotated[int, Option("Another seed makes another round.")] = 0
    where: Where = None
    limit: Annotated[int | None, Option("Queries at most.", min=1)] = None
    sampler: Annotated[SamplerBackend, Option("What runs the policy.")] = "auto"
    phase: Annotated[Phase, Option("Stop after sampling, or score what was sampled before.")] = "both"


@dataclass(frozen=True, kw_only=True)
class AddResponses(OfDataset, Reading, Admitting, Running, Workers, Watched):
    """Of `add_responses`, which is `expand --responses` on the command line."""

    source: Annotated[
        str | Path,
        Argument("A file, folder, glob or hub id of any shape that `score` reads, or with one answer a row."),
    ] = field(kw_only=False)
    limit: Annotated[int | None, Option("Rows read at most.", min=1)] = None


@dataclass(frozen=True, kw_only=True)
class Stats(OfDataset):
    """Of `stats`."""

    thresholds: Annotated[
        Sequence[float], Option("Gaps to count beyond, in the reward's unit; repeatable.", flag="--threshold")
    ] = (1.0, 5.0)
    by: Annotated[str | None, Option("Break down by source, subset, split, turns, meta.KEY or polarity.")] = None
    where: Where = None
    rank_by: RankBy = None
    drop_by: DropByOption = None
    report: Annotated[str | Path | None, Option("Write a self-contained HTML page there.", metavar="<path>")] = None
    plots: Annotated[
        str | Path | None, Option("Write the figures as PNG and SVG into this folder.", metavar="<path>")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Export(OfDataset, Watched):
    """Of `export`."""

    to: Annotated[Form, Option("The form to write.")]
    out: Annotated[
        str | Path,
        Option(
            "The file, or the folder for datasets.load_from_disk; or its URL (s3://…). TRL's forms go by its ending: "
            ".jsonl or .json, .parquet, or none for a folder.",
            metavar="<path>",
        ),
    ]
    pairs: Annotated[
        PairsOf | None,
        Option(
            "Whose preferences: the rewards' (best-worst; mu-2sigma: the best and what lies two standard deviations "
            "below the mean; random: any two; all pairs) or people's (labels; reviews: what reviewers said, dropped "
            "responses as rejected ones).",
            unset="best-worst; trl-kto takes verdicts first",
        ),
    ] = None
    min_gap: Annotated[float | None, Option("Reward of chosen minus rejected must exceed this.")] = None
    where: Where = None
    limit: Annotated[int | None, Option("Records taken at most.", min=1)] = None
    keep_pairs: KeepPairs = None
    rank_by: RankBy = None
    drop_by: DropByOption = None
    polarities: Annotated[
        str | Iterable[str],
        Option(
            "Take only responses of this polarity: positive, negative, or none (no such prompt); repeatable.",
            unset="all",
            flag="--polarity",
        ),
    ] = ()
    overwrite: Annotated[bool, Option("Replace what is at {out}.")] = False
    license: Annotated[str | None, Option("The card's licence, say mit; it is never guessed.", unset="unknown")] = None
    language: Annotated[str | None, Option("The card's language, say en.")] = None
    push_to_hub: Annotated[str | None, Option("Upload it to this repository too ({to} hf).")] = None
    public: Annotated[bool, Option("Make the repository public.")] = False
    include_negative: Annotated[bool, Option("Upload responses sampled under a negative prompt as well.")] = False


@dataclass(frozen=True, kw_only=True)
class Compact(OfDataset, Watched):
    """Of `compact`."""

    out: Annotated[
        str | Path, Option("The new dataset's folder, or its URL: s3://, gs://, az://.", metavar="<path>")
    ] = field(kw_only=False)
    compression: Compression = "none"


@dataclass(frozen=True, kw_only=True)
class Verify(OfDataset):
    """Of `verify`."""

    rebuild: Annotated[bool, Option("Make a lost manifest anew from the shards.")] = False
