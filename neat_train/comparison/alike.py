"""Whether evaluations can be compared, and whether runs are seeds of one arm.

What differs too much is refused, what a reader must know becomes a note. Seeds of one arm were trained in one way, with
nothing but luck between them; but a seed decides more than the order of its records: DPO goes on from the SFT run of
its own seed, and a control may be trained on what the run of its own seed sampled. So which policy and which data a run
began with may differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from neat_data.errors import InputError
from neat_data.scoring.dataset_reward import mismatches
from neat_data.store.claim import differences
from neat_data.store.documents import Settings
from neat_train.comparison.evaluation import TOKENS, Evaluation, stored
from neat_train.evaluation.result import AskedQueries

Evaluations = Mapping[str, Sequence[Evaluation]]
_APART = ("subject", "start", "queries", "prompt", "reward_models")  # may differ, or are looked at by themselves
_SAID = ("seed", "refusal", "shard_rows")  # the luck, what is counted, the last bits: answers compare all the same
_CHARACTERS = 120  # of a setting that differs
_POLICY = ("weights", "config", "revision", "adapter")  # of a subject: what is compared
_SEEDS = ("seed", "data_seed")
_WHICH = ("model", "weights", "config", "revision", "adapter")  # of a policy: which one it is
_COMPUTED = ("device", "token_budget", "path", "attention")  # where and how, which only rounds differently
_READ = {
    "method": lambda one: one.result.subject.method,
    "prompt": lambda one: one.result.prompt,
    "tokenizer": lambda one: one.tokens.get("tokenizer"),
    "chat template": lambda one: one.tokens.get("template"),
}


def require_alike(evaluated: Evaluations) -> list[str]:
    """Notes on what differs between the evaluations of these arms.

    Raises:
        InputError: they asked other queries or in another way, or reward models of one name are different models.
    """
    first, *others = [evaluation for evaluations in evaluated.values() for evaluation in evaluations]
    for other in others:
        _require_same_queries(first, other)
        _require_same_decoding(first, other)
        _require_same_reward_models(first, other)
    return [
        *_other_tokens(evaluated),
        *_other_settings(evaluated, first),
        *_other_prompts(evaluated),
        *_other_starts(evaluated),
        *_lacking_models(evaluated),
    ]


def same_tokens(evaluations: Sequence[Evaluation]) -> bool:
    """Whether a text becomes the same tokens in all of them."""
    return all(evaluation.tokens == evaluations[0].tokens for evaluation in evaluations)


def _require_same_queries(first: Evaluation, other: Evaluation) -> None:
    asked, other_asked = first.result.queries, other.result.queries
    if asked.sha256 != other_asked.sha256:
        raise InputError(
            f"{other.folder}: was evaluated on other queries ({_named(other_asked)}) than {first.folder} "
            f"({_named(asked)});",
            advice="evaluate both on the same {queries}",
        )


def _named(queries: AskedQueries) -> str:
    return f"{queries.name}, {queries.count:,} of them, sha256 {queries.sha256[:8]}"


def _require_same_decoding(first: Evaluation, other: Evaluation) -> None:
    if changed := differences(_decoding(first), _decoding(other)):
        raise InputError(
            f"{other.folder}: was evaluated in another way than {first.folder} ({_shortly(changed[:2])});\n"
            "evaluate both with the same options"
        )


def _decoding(evaluation: Evaluation) -> Settings:
    return {name: value for name, value in evaluation.result.settings.items() if name not in (*_APART, *_SAID)}


def _shortly(changed: Sequence[str]) -> str:
    """Prompts are long."""
    return "; ".join(shorten(change, _CHARACTERS, placeholder=" …") for change in changed)


def _require_same_reward_models(first: Evaluation, other: Evaluation) -> None:
    one, two = (_models(evaluation) for evaluation in (first, other))
    for name in sorted(one.keys() & two.keys()):
        loaded = [dict(evaluation.result.reward_models.get(name, {})) for evaluation in (first, other)]
        if changed := differences(one[name], two[name]) or mismatches(*loaded):
            raise InputError(
                f"{other.folder}: its reward model {name} is not that of {first.folder} ({'; '.join(changed[:2])});",
                advice="evaluate both with the same {reward_model}",
            )


def _models(evaluation: Evaluation) -> dict[str, Settings]:
    """What an evaluation says of each of its reward models."""
    models = evaluation.result.settings.get("reward_models", {})
    return {name: content if isinstance(content, dict) else {"is": content} for name, content in models.items()}


def _other_tokens(evaluated: Evaluations) -> Iterator[str]:
    (first, (mine, *_)), *others = evaluated.items()
    if names := [name for name, evaluations in others if not same_tokens([mine, *evaluations])]:
        yield (
            f"{', '.join(names)}: another tokenizer or chat template than {first}, so perplexity, KL a token and "
            "numbers of tokens do not compare between them, and perplexity is not tested."
        )


def _other_settings(evaluated: Evaluations, first: Evaluation) -> Iterator[str]:
    mine = _computed(first)
    for name, evaluations in evaluated.items():
        changed = sorted({change for evaluation in evaluations for change in differences(mine, _computed(evaluation))})
        if changed:
            yield f"{name} was evaluated with other settings than the first arm: {_shortly(changed[:4])}."


def _computed(evaluation: Evaluation) -> Settings:
    """Settings that say how, and not what."""
    settings = evaluation.result.settings
    subject = settings.get("subject", {})
    return {
        **{name: settings.get(name) for name in _SAID},
        **{name: value for name, value in subject.items() if name not in (*_POLICY, *TOKENS)},
    }


def _other_prompts(evaluated: Evaluations) -> Iterator[str]:
    for name, evaluations in evaluated.items():
        if (prompt := evaluations[0].result.prompt) != "none":
            yield f"{name} was evaluated with the prompt {prompt} around every query."


def _other_starts(evaluated: Evaluations) -> Iterator[str]:
    """KL is a distance from somewhere: said where that is not the same for all."""
    starts: dict[tuple[str, str], list[str]] = {}
    for name, evaluations in evaluated.items():
        for start in (evaluation.start for evaluation in evaluations):
            if start is not None:
                starts.setdefault((start.weights, start.label), []).append(name)
    lacking = [
        name for name, evaluations in evaluated.items() if any(evaluation.start is None for evaluation in evaluations)
    ]
    if lacking:
        yield f"{', '.join(lacking)}: no KL, since neat-train eval did not know where they began (--start says it)."
    if len({weights for weights, _ in starts}) > 1:
        origins = (f"that of {', '.join(dict.fromkeys(arms))} from {label}" for (_, label), arms in starts.items())
        yield f"KL is measured from different policies: {'; '.join(origins)}."


def _lacking_models(evaluated: Evaluations) -> Iterator[str]:
    models = dict.fromkeys(
        model for evaluations in evaluated.values() for evaluation in evaluations for model in evaluation.reward_models
    )
    for name, evaluations in evaluated.items():
        lacking = [
            model for model in models if any(model not in evaluation.reward_models for evaluation in evaluations)
        ]
        if lacking:
            yield f"{name} was not scored by {', '.join(lacking)}: those cells are empty."


def require_seeds(name: str, evaluations: Sequence[Evaluation], runs: Sequence[Path]) -> None:
    """Raise InputError where the arm of this name is several.

    Args:
        evaluations: those that its seeds have.
        runs: the folders of those of its seeds that are runs, evaluated or not.
    """
    for key, read in _READ.items():
        kinds = {str(read(evaluation)) for evaluation in evaluations}
        if len(kinds) > 1:
            raise InputError(f"{name}: its runs differ in {key} ({', '.join(sorted(kinds))}){_SO}")
    weights = [evaluation.weights for evaluation in evaluations]
    if None not in weights and len(set(weights)) < len(weights):
        spec = evaluations[0].result.subject.spec
        raise InputError(f"{name}: the same weights are given twice ({spec}, …)")
    for run in runs[1:]:
        if changed := differences(_settings(runs[0]), _settings(run)):
            raise InputError(f"{name}: {runs[0]} and {run} differ in {'; '.join(changed[:3])}{_SO}")


_SO = ", so they are not seeds of one arm;\ngive them different NAMEs"


def _settings(run: Path) -> Settings:
    """What seeds of one arm have in common, from settings.json."""
    document = stored(run)
    settings, content = document["identifying"], document["content"]
    return {
        **_without(settings, _COMPUTED),
        "training": _without(settings["training"], _SEEDS),
        "policy": _without(content["policy"], (*_WHICH, *_COMPUTED)),
        "reward_model": _without(content["reward_model"], _COMPUTED),
        "prompts": content.get("prompts"),
        "held_out_prompt": content.get("held_out_prompt"),
    }


def _without(settings: Mapping[str, Any], names: Collection[str]) -> Settings:
    return {name: value for name, value in settings.items() if name not in names}
