"""Whether what was given under one name are seeds of one arm: trained in one way, with nothing but luck between them.

A seed decides more than the order of its records: DPO goes on from the SFT run of its own seed, and a control may be
trained on what the run of its own seed sampled. So which policy and which data a run began with may differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.store.manifest import differences
from neat_train.comparison.evaluation import Evaluation
from neat_train.comparison.places import stored

_SEEDS = ("seed", "data_seed")
_WHICH = ("model", "weights", "config", "revision", "adapter")  # of a policy: which one it is
_COMPUTED = ("device", "token_budget", "path", "attention")  # where and how, which only rounds differently
_READ = {
    "method": lambda one: one.content["subject"].get("method"),
    "prompt": lambda one: one.content["prompt"],
    "tokenizer": lambda one: one.tokens.get("tokenizer"),
    "chat template": lambda one: one.tokens.get("template"),
}


def require_seeds(name: str, evaluations: Sequence[Evaluation], runs: Sequence[Path]) -> None:
    """Raise InputError where the arm of this name is several.

    Args:
        evaluations: those that its seeds have.
        runs: the folders of those of its seeds that are runs, evaluated or not.
    """
    for key, read in _READ.items():
        kinds = {str(read(one)) for one in evaluations}
        if len(kinds) > 1:
            raise InputError(f"{name}: its runs differ in {key} ({', '.join(sorted(kinds))}){_SO}")
    weights = [one.weights for one in evaluations]
    if None not in weights and len(set(weights)) < len(weights):
        spec = evaluations[0].content["subject"].get("spec")
        raise InputError(f"{name}: the same weights are given twice ({spec}, …)")
    for run in runs[1:]:
        if changed := differences(_settings(runs[0]), _settings(run)):
            raise InputError(f"{name}: {runs[0]} and {run} differ in {'; '.join(changed[:3])}{_SO}")


_SO = ", so they are not seeds of one arm;\ngive them different NAMEs"


def _settings(run: Path) -> dict[str, Any]:
    """What seeds of one arm have in common, from settings.json."""
    told = stored(run)
    settings, content = told.get("identifying", {}), told.get("content", {})
    return {
        **_without(settings, _COMPUTED),
        "training": _without(settings.get("training", {}), _SEEDS),
        "policy": _without(content.get("policy", {}), (*_WHICH, *_COMPUTED)),
        "reward_model": _without(content.get("reward_model") or {}, _COMPUTED),
        "prompts": content.get("prompts"),
        "held_out_prompt": content.get("held_out_prompt"),
    }


def _without(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
