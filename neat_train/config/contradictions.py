"""Settings that cannot both be meant, each refused in one message that names both, here and nowhere else.

What two settings say of each other is found before anything is opened; what data or models say against one of them is
for who opens these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neat_data.errors import InputError
from neat_train.config.ranking import METHOD_KINDS, OfPairs
from neat_train.config.settings import BASELINES, OWN, REWARD, FitSettings
from neat_train.documents import Section

# These of `rounds` say something of a run that samples nothing, too: held-out answers are scored.
_ALSO_OFFLINE = {"prompts", "reward_model", "reward_device", "mix_rewards", "placement"}


def refuse_contradictions(
    settings: FitSettings, said: Section | None = None, for_method: Section | None = None
) -> None:
    """Raise InputError with the first of them.

    Args:
        said: what the user set, without defaults: only that can contradict by being there. None: not known, as of
            settings that were made in Python.
        for_method: the part of it that was set with this method in view: not a file that serves several methods.
    """
    said = said or {}
    if problem := next(_contradictions(settings, said, said if for_method is None else for_method), None):
        raise InputError(problem)


def _contradictions(settings: FitSettings, said: Section, for_method: Section) -> Iterator[str]:
    yield from _of_lengths(settings)
    yield from _idle(settings, for_method)
    yield from _of_the_method(settings, said)
    yield from _of_rounds(settings)
    yield from _of_the_policy(settings, said)
    yield from _of_held_out(settings, said)


def _of_lengths(settings: FitSettings) -> Iterator[str]:
    response, new = settings.max_response, settings.rounds.max_new_tokens
    if response >= settings.max_length:
        yield f"max_response {response} leaves no room for a query in max_length {settings.max_length}"
    if new is not None and new > response:
        yield f"rounds.max_new_tokens {new} is more than max_response {response}: samples would be cut for training"


def _idle(settings: FitSettings, said: Section) -> Iterator[str]:
    """What the method has no use for."""
    method = settings.method
    if "dpo" in said and method != "dpo-trl":
        first = _first(said["dpo"])
        hint = f"say loss.ranking.{first}, or method dpo-trl" if method == "dpo" else "say method dpo-trl"
        yield f"dpo.{first} has no meaning for method {method}: {hint}"
    if "sft" in said and method not in ("sft", "sft-trl"):
        yield f"sft.{_first(said['sft'])} has no meaning for method {method}: say method sft"
    if "reward" in said and method != REWARD:
        yield f"reward.{_first(said['reward'])} has no meaning for method {method}: say method reward"
    if method == REWARD:
        yield from _of_a_reward_model(settings, said)
    if method in BASELINES and "loss" in said:
        hint = "; its own is dpo.beta" if method == "dpo-trl" else ""
        yield f"loss.{_first(said['loss'])} has no meaning for method {method}, which TRL's trainer trains{hint}"
    loss = said.get("loss", {})
    if loss.get("beta") and "kind" not in loss.get("penalty", {}) and settings.loss.penalty.kind == "none":
        yield f"loss.beta weighs a penalty, and method {method} has none: say loss.penalty.kind, or leave it out"
    if not settings.online and (idle := set(said.get("rounds", {})) - _ALSO_OFFLINE):
        yield f"rounds.{min(idle)} has no meaning for method {method}, which samples nothing: rounds.prompts"


def _of_a_reward_model(settings: FitSettings, said: Section) -> Iterator[str]:
    if "loss" in said:
        yield f"loss.{_first(said['loss'])} has no meaning for method reward: its own settings are those of reward"
    if settings.online:
        yield f"rounds.prompts {settings.rounds.prompts} and method reward, which samples nothing"
    if settings.rounds.reward_model is not None:
        yield f"rounds.reward_model {settings.rounds.reward_model} and method reward, which trains one and asks none"
    if settings.load_in_4bit:
        yield "load_in_4bit and method reward: say dtype bfloat16, its score head stays in float32"


def _of_the_method(settings: FitSettings, said: Section) -> Iterator[str]:
    method = settings.method
    if method in BASELINES and settings.online:
        yield f"rounds.prompts {settings.rounds.prompts} and method {method}, which trains offline: sample first"
    penalty = said.get("loss", {}).get("penalty", {})
    if penalty.get("kind") == "none" and said["loss"].get("beta"):
        yield f"loss.beta {settings.loss.beta} weighs a penalty, and loss.penalty.kind is none: leave one out"
    yield from _of_the_ranking(settings)
    yield from _of_labels(settings)
    if settings.rounds.prompts == "plain" and penalty.get("target") == "negative_prompt":
        yield "loss.penalty.target negative_prompt has nothing to penalise: rounds.prompts is plain"


def _of_labels(settings: FitSettings) -> Iterator[str]:
    """Reviewers' word, for a method that asks rewards."""
    if settings.labels == "reviews" and (settings.online or settings.speaking_pair != "labels"):
        yield (
            f"labels reviews and method {settings.method}, which learns from rewards as it is set: "
            "say method reward, or of pairs or sft with what people chose"
        )


def _of_the_ranking(settings: FitSettings) -> Iterator[str]:
    ranking = settings.loss.active_ranking
    if (settings.method == OWN) != (settings.loss.ranking.kind == "own"):
        yield "loss.ranking.kind own runs a file: name it as the method, FILE.py:FUNCTION"
    if settings.method in METHOD_KINDS and settings.loss.ranking.kind != settings.method:
        kind = settings.loss.ranking.kind
        yield f"method {settings.method} and loss.ranking.kind {kind} name two losses: leave one out"
    if settings.online and isinstance(ranking, OfPairs) and ranking.pairs == "chosen":
        yield (
            f"loss.ranking.pairs chosen and rounds.prompts {settings.rounds.prompts}: "
            "people preferred none of the samples; say loss.ranking.pairs best-worst or all"
        )
    if settings.online and settings.method == "sft" and settings.sft.target == "chosen":
        yield f"sft.target chosen and rounds.prompts {settings.rounds.prompts}: say sft.target best or best-of-n"


def _of_rounds(settings: FitSettings) -> Iterator[str]:
    rounds = settings.rounds
    if settings.online and settings.rank_by is not None:
        yield f"rank_by {settings.rank_by} and rounds.prompts {rounds.prompts}: samples have the run's rewards alone"
    if rounds.ahead and rounds.sampler == "vllm":
        yield "rounds.ahead 1 and rounds.sampler vllm: what samples ahead runs the model itself; leave one out"
    if rounds.every is None:
        return
    if rounds.queries == "epoch":
        yield f"rounds.every {rounds.every} and rounds.queries epoch: a block of a whole epoch comes once an epoch"
    queries = settings.records_per_step if rounds.queries == "step" else rounds.queries
    if isinstance(queries, int) and rounds.every < queries:
        yield f"rounds.every {rounds.every} is less than the {queries} queries of a block (rounds.queries)"


def _of_the_policy(settings: FitSettings, said: Section) -> Iterator[str]:
    if settings.full and settings.load_in_4bit:
        yield "full and load_in_4bit contradict each other: weights in 4 bits cannot be trained, an adapter can"
    if settings.full and "lora" in said:
        yield f"full trains all weights, and lora.{_first(said['lora'])} is of an adapter: leave one out"
    if settings.full and settings.dtype not in ("auto", "float32"):
        yield (
            f"full and dtype {settings.dtype} contradict each other: weights that are trained stay in float32; "
            "leave dtype out, and say bf16 true for passes in bfloat16"
        )


def _of_held_out(settings: FitSettings, said: Section) -> Iterator[str]:
    held, evaluates = settings.held_out, settings.training.get("eval_strategy") != "no"
    if held.data is not None and "share" in said.get("held_out", {}):
        yield f"held_out.data {held.data} and held_out.share {held.share} contradict each other: leave one out"
    if evaluates and held.data is None and held.share == 0:
        yield "held_out.share 0 holds nothing out for eval_strategy: set eval_strategy no, or say held_out.data"
    if not evaluates and settings.training.get("load_best_model_at_end"):
        yield "load_best_model_at_end needs measurements, and eval_strategy is no"


def _first(section: Any) -> str:
    return min(section) if isinstance(section, dict) and section else "*"
