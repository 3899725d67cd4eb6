"""The settings of a training run: what may be set, what each method and preset sets, and what identifies a run.

A settings file (YAML) and `--set a.b=c` are laid over the method's defaults by `reading`, which also refuses
what contradicts itself. Names of transformers' TrainingArguments stand at the top level and are gathered in `training`.
Nothing here imports torch: settings are checked before anything loads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from neat_data.record import canonical_json
from neat_train.config.objective import ObjectiveSettings, Settings, SFTTerm
from neat_train.config.ranking import METHOD_KINDS, OnePair, PolicyGradient
from neat_train.config.reward import RewardSettings
from neat_train.config.verbs import HELD_OUT, METHOD, REWARD_MODEL, Flagged
from neat_train.documents import Section

OWN = "own"  # a user's loss; only `--method FILE.py:FUNCTION` sets it
REWARD = "reward"  # trains a reward model and no policy
BASELINES = ("dpo-trl", "sft-trl")  # trained by TRL's own trainers
SFTTarget = Literal["chosen", "best", "best-of-n", "random-of-n"]


class LoraSettings(Settings):
    """The adapter that is trained; peft's names."""

    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=16, ge=1)
    """Scale: the adapter's output is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped while training."""
    target_modules: str | list[str] = "all-linear"
    """Layers that get an adapter: `all-linear` (those of the language alone), or the ends of their names."""
    dtype: Literal["float32", "model"] = "float32"
    """What the adapter's weights are kept in; `model` is faster where that is in half precision, and less precise."""


class RoundSettings(Settings):
    """Responses that are sampled from the policy while it is trained (NEAT Algorithm 1)."""

    prompts: str | None = None
    """Prompt set of the rounds: `neat`, `plain` or a file, a part of it behind a colon; null: nothing is sampled."""
    queries: Annotated[int, Field(ge=1)] | Literal["step", "epoch"] = "step"
    """A block: queries of the coming steps that are sampled at once. `step` is one mini-batch, as in Algorithm 1."""
    every: int | None = Field(default=None, ge=1)
    """A block every so many queries; null: as many as a block has. In between, training uses what is there."""
    keep: Literal["newest", "all"] = "newest"
    """Sampled responses that a record is trained with: the newest of each polarity beside the original ones, or all."""
    samples: int = Field(default=1, ge=1)
    """Responses to each query under each prompt."""
    temperature: float = Field(default=1.0, ge=0)
    """Of the samples; 0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample among the likeliest tokens of this probability together."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a sample; null: max_response."""
    into: Literal["run", "dataset"] = "run"
    """Where the samples go: a dataset of the run's own, which shares the shards, or the dataset itself."""
    sampler: Literal["transformers", "vllm"] = "transformers"
    """What samples: the model in training itself, or vLLM beside it with the adapter handed over."""
    placement: Literal["colocate", "devices", "server"] = "colocate"
    """Where sampler and reward model lie: beside the policy, on devices of their own, or behind a URL."""
    reward_model: Annotated[str | None, REWARD_MODEL] = None
    reward_device: str | None = None
    """The reward model's device; null: the policy's."""
    mix_rewards: bool = False
    """Whether another reward model than the dataset's own may score."""
    ahead: Literal[0, 1] = 0
    """1: the next block is sampled and scored in a process of its own while this one trains, with weights that are a
    block older."""
    ahead_device: str | None = None
    """The device of that process; null: the policy's, and the reward model's."""
    logp_limit: float | None = Field(default=0.1, gt=0)
    """Nats a token that the sampler's log-probabilities may be off those of the loss, on average over some samples of
    every block; beyond it other weights are served, and the run stops. null: it is measured only."""
    gpu_memory_utilization: float = Field(default=0.3, gt=0, le=1)
    """Share of the device's memory that vLLM may take."""
    drop: tuple[str, ...] = ("unfinished",)
    """Samples that are not used, beside empty and repeated ones: unfinished, cut, refusal. An unfinished one teaches no
    end of turn: where length is rewarded, a policy that learns from those soon never ends."""
    min_tokens: int = Field(default=0, ge=0)
    """Shorter samples are not used."""
    keep_where: str | None = None
    """A SQL expression over a sample; those it is false for are not used, say `reward < rejected`."""


class HeldOutSettings(Settings):
    """The queries that are never trained on, and what is measured on them."""

    share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the queries, chosen by their ids."""
    data: Annotated[str | None, HELD_OUT] = None
    queries: int = Field(default=200, ge=1)
    """Queries that are measured at most."""
    samples_shown: int = Field(default=10, ge=0)
    """Answers that are written to samples.jsonl each time."""
    prompt: str = "plain"
    """The prompt that answers are sampled under: one of a prompt set, say `neat:positive`."""
    temperature: float = Field(default=1.0, ge=0)
    """Of the answers; 0 is greedy."""


class DPOSettings(Settings):
    """Direct preference optimisation by TRL's trainer; that on token trees is a kind of `loss.ranking`."""

    beta: float = Field(default=0.1, gt=0)
    """How much a step away from the reference costs."""
    pairs: OnePair = "chosen"
    """What people preferred, or what the rewards say of each record, as `loss.ranking.pairs`."""


class SFTSettings(Settings):
    """Supervised fine-tuning, on token trees or by TRL's trainer."""

    target: SFTTarget = "chosen"
    """What is learnt: the response that people preferred; the one with the highest reward; of those that were sampled
    the one with the highest reward, or, its control, one at random."""


class FitSettings(Settings, Flagged):
    """Everything `neat-train fit` can be told beside the dataset, the policy and the run folder."""

    method: Annotated[str, METHOD] = "neat"
    loss: ObjectiveSettings = ObjectiveSettings()
    """The objective, of every method but TRL's."""
    dpo: DPOSettings = DPOSettings()
    """Of method dpo-trl."""
    sft: SFTSettings = SFTSettings()
    """Of methods sft and sft-trl."""
    reward: RewardSettings = RewardSettings()
    """Of method reward."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    rounds: RoundSettings = RoundSettings()
    """Online rounds."""
    held_out: HeldOutSettings = HeldOutSettings()
    """What is measured while training."""
    template_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Handed to the chat template, say {enable_thinking: false}."""
    path: Literal["auto", "trees", "batches"] = "auto"
    """Share a query among its responses, or pad; auto checks what is exact."""
    records_per_step: int = Field(default=64, ge=1)
    """Records of one optimiser step, over all devices and micro-batches."""
    token_budget: int | None = Field(default=None, ge=64)
    """Tokens of one micro-batch on one device; null: the device's."""
    max_length: int = Field(default=512, ge=8)
    """Tokens of query and response; a longer query loses its oldest turns."""
    max_response: int = Field(default=128, ge=2)
    """Tokens of a response; a longer one is cut."""
    model_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Handed to the policy's `from_pretrained`."""
    training: dict[str, JsonValue] = Field(default_factory=dict)
    """TrainingArguments of transformers; each is set by its own name, at the top level."""

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        if method not in METHODS and method != OWN:
            raise ValueError(f"unknown; choose {', '.join(METHODS)}")
        return method

    @property
    def online(self) -> bool:
        """Whether responses are sampled while training."""
        return self.rounds.prompts is not None

    @property
    def seed(self) -> int:
        """Decides the order of records, the samples and the adapter's first weights."""
        seed = self.training["seed"]
        assert isinstance(seed, int)
        return seed

    @property
    def speaking_pair(self) -> str:
        """The pair that speaks for a record where one has to, as a word of `export --pairs`; `labels`: people's."""
        if self.method == REWARD:
            return "labels"
        if self.method in ("sft", "sft-trl"):
            return "labels" if self.sft.target == "chosen" else "best-worst"
        choice = self.dpo.pairs if self.method == "dpo-trl" else self.loss.active_ranking.chosen_pairs
        return "labels" if choice == "chosen" else choice

    def resolved(self) -> Section:
        """JSON-able, every default filled in; `FitSettings.model_validate` reads it back."""
        return self.model_dump(mode="json")


# Where the paper and transformers' own defaults leave something open; steps below 1 are shares of the run.
TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_epochs": 3,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "max_grad_norm": 1.0,
        "seed": 0,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 0.1,
        "save_total_limit": 2,
        "eval_strategy": "steps",
        "eval_steps": 0.1,
        "eval_on_start": True,
        "report_to": "none",
    }
)

# What a preset sets beside the objective. The paper says nothing of samples that did not end: it has all of them.
PRESET_SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"paper": {"rounds": {"drop": []}}})

# A loss in the place of the ranking term, and nothing beside it.
ALONE: Mapping[str, Any] = MappingProxyType(
    {"sft": {"weight": 0.0}, "alpha": 1.0, "beta": 0.0, "penalty": {"kind": "none"}}
)


def _ranked_by(kind: str) -> Mapping[str, Any]:
    """A policy gradient samples what it learns from."""
    defaults: Section = {"loss": {**ALONE, "ranking": {"kind": kind}}}
    if issubclass(METHOD_KINDS[kind], PolicyGradient):
        defaults["rounds"] = {"prompts": "plain", "samples": 4}
    return defaults


METHODS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "neat": {"rounds": {"prompts": "neat:negative"}},
        "neat-pp": {"rounds": {"prompts": "neat"}},
        "rrhf": {"loss": {"beta": 0.0}},
        "rrhf-official": {"loss": {"beta": 0.0, "normaliser": "padded"}},
        "rrhf-online": {"loss": {"beta": 0.0}, "rounds": {"prompts": "plain"}},
        **{kind: _ranked_by(kind) for kind in METHOD_KINDS},
        "sft": {"loss": {**ALONE, "sft": {"weight": 1.0, "per": "token"}, "alpha": 0.0}},
        REWARD: {"max_length": 1024, "max_response": 512},  # a response that is longer is left out, as in scoring
        "dpo-trl": {},
        "sft-trl": {},
    }
)

# Nothing of these changes a byte of what is trained or of what is measured.
_IDLE = frozenset(
    {
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "logging_nan_inf_filter",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
        "save_total_limit",
        "ddp_timeout",
        "skip_memory_metrics",
    }
)
_SAVING = frozenset({"save_strategy", "save_steps"})


def identifying(settings: FitSettings) -> Section:
    """The settings that can change a byte of the run: not how it is logged, nor how often an offline run is saved.

    Online, every checkpoint folds the rounds so far into one round of the dataset, so its steps count there. What names
    a place (models, prompts, data) or picks verdicts is left out: `run_folder.Identity` has what lies there.
    """
    values = settings.resolved()
    idle = _IDLE if settings.online else _IDLE | _SAVING
    values["training"] = {name: value for name, value in values["training"].items() if name not in idle}
    _leave_out_what_is_new(values["loss"])
    if settings.method != REWARD:
        del values["reward"]
    for name in ("device", "dtype", "chat_template", "thinking", "template_args", "drop_by"):
        del values[name]
    for name in ("prompts", "reward_model", "reward_device", "ahead_device", "logp_limit"):
        del values["rounds"][name]
    if not values["rounds"]["ahead"]:
        del values["rounds"]["ahead"]  # runs of earlier versions could not say it
    for name, before in (("keep_pairs", None), ("labels", "source")):
        if values[name] == before:
            del values[name]  # as above
    del values["held_out"]["data"], values["held_out"]["prompt"]
    return values


def _leave_out_what_is_new(loss: Section) -> None:
    """What runs of earlier versions could not say, where it means what they did: they keep their fingerprint."""
    if loss["sft"] == SFTTerm().model_dump():
        del loss["sft"]
    if loss["ranking"]["kind"] == "neat":
        del loss["ranking"]["kind"]


def of_earlier_versions(stored: Section) -> Section:
    """A run's settings, resolved or identifying, with today's names: `dpo` and `sft` meant TRL's trainers."""
    earlier = stored["method"] in ("dpo", "sft") and "sft" not in stored["loss"]
    return {**stored, "method": f"{stored['method']}-trl"} if earlier else stored


def fingerprint(content: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of what identifies a run."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
