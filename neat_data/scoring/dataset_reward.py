"""The reward model that a dataset was scored with: found again for new responses, and compared with what is found.

Rewards of two models cannot be ranked against each other, so responses that join a dataset are scored by its own model.
The manifest names that model by its hashes and tells no path; a folder is found by the note that `remember` leaves in
the user's cache, a name on the hub is followed, and a function is for the user to name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from neat_data.errors import InputError
from neat_data.models import places
from neat_data.models.reward_model import RewardModelSpec
from neat_data.store import recorded
from neat_data.store.address import DatasetPath
from neat_data.store.documents import Arguments, Settings
from neat_data.store.location import locate

# What decides a reward, of the settings that back ends state of themselves. The rest moves it by rounding alone.
_DECISIVE = (
    "weights",
    "revision",
    "adapter",
    "sha256",
    "template",
    "tokenizer",
    "max_length",
    "max_response",
    "rubric",
)
_SAID = ("score",)  # decides as well, and is recorded where it is not the default
_NOTED_BY = ("weights", "revision", "adapter", "template", "tokenizer")
_LOADED = ("transformers", "vllm")  # back ends that load a model from a folder or from the hub
_ELSEWHERE = ("http://", "https://", "judge:", "implicit:")
_OLD_HINT = ".reward-model.json"  # lay in the dataset until it was seen that anybody can write it


def remember(spec: RewardModelSpec, settings: Settings) -> None:
    """Note where a model was loaded from, for `spec_of`.

    Servers and functions are not noted: an address may hold a secret, and code runs only where it is named.

    Args:
        settings: what the model says of itself.
    """
    if settings.get("backend") in _LOADED:
        place = {"model": places.absolute(spec.model), "chat_template": _template_place(spec.chat_template)}
        places.note("reward model", _key(settings), place)


def _template_place(template: str) -> str:
    return template if template in ("auto", "hh") else places.absolute(template)


def _key(settings: Settings) -> Settings:
    return {name: settings[name] for name in _NOTED_BY if name in settings}


def template_of(settings: Settings) -> str:
    """The chat template that a model with these settings was loaded with, as far as it is noted."""
    return places.noted("reward model", _key(settings)).get("chat_template", "auto")


def spec_of(folder: DatasetPath, settings: Settings, device: str) -> RewardModelSpec:
    """What loads the model that the dataset in `folder` was scored with; `require_same_files` comes before loading.

    Args:
        settings: of that model, as the manifest has them.

    Raises:
        InputError: the dataset's rewards came with its source, or from where nothing can be loaded any more; the
            manifest names a function, a path, or arguments that are for the user to say.
    """
    name, backend = settings.get("model"), settings.get("backend")
    if backend == "callable":
        raise InputError(
            f"{folder}: was scored with the function {name}, and no function is run on a dataset's word.",
            advice="If you trust it, name it: {reward_model} FILE.py:FUNCTION; its hash tells whether it is the same.",
        )
    if backend not in _LOADED:
        kind = "came with its source" if name == "given" else f"came from {name}"
        raise InputError(
            f"{folder}: its rewards {kind}.", advice="Say what scores the new responses: {reward_model} MODEL"
        )
    return RewardModelSpec(
        _place(folder, settings),
        backend="vllm" if backend == "vllm" else "auto",
        device=device,
        chat_template=template_of(settings),
        **parts_of(settings),
        model_args=recorded.arguments(settings, "Name the model yourself: {reward_model} MODEL"),
        **recorded.scoring(settings),
    )


def _place(folder: DatasetPath, settings: Settings) -> str:
    name = settings.get("model")
    if ("revision" in settings or "adapter" in settings) and recorded.is_hub_id(name):
        return str(name)
    if "revision" in settings and "adapter" not in settings:
        lacking = "which is no model of the hub, and no path is followed on a dataset's word"
    else:
        noted = places.noted("reward model", _key(settings)).get("model")
        if noted is not None and Path(noted).is_dir():
            return noted
        lacking = f"which is no longer at {noted}" if noted else "and where that lies is not noted here"
        if locate(folder).read(_OLD_HINT) is not None:
            lacking += f" ({_OLD_HINT} in a dataset is not read any more)"
    raise InputError(
        f"{folder}: was scored with {name}, {lacking}.",
        advice="Say where it is: {reward_model} MODEL; its hashes tell whether it is the same.",
    )


def parts_of(settings: Settings) -> Arguments:
    """Which part of a response was scored, and how the template was asked to write it, for `RewardModelSpec`.

    Raises:
        InputError: what is recorded makes no sense.
    """
    score, arguments = settings.get("score", "answer"), settings.get("template_args") or {}
    if score not in ("answer", "whole") or not isinstance(arguments, dict):
        raise InputError(f"reward model {settings.get('model')}: recorded score {score!r}, template_args {arguments!r}")
    return {"score": score, "template_args": arguments}


def completed(spec: RewardModelSpec, settings: Settings, *, another: bool = False) -> RewardModelSpec:
    """`spec` with what the dataset's model scored, and its lengths, where the user said nothing of them.

    Args:
        another: whether it may be another model, whose template knows other arguments.
    """
    parts = parts_of(settings)
    spec = replace(spec, score=parts["score"], template_args={} if another else parts["template_args"])
    if "weights" not in settings and "revision" not in settings:
        return spec
    known = recorded.scoring(settings)
    return replace(
        spec,
        max_length=spec.max_length or known.get("max_length"),
        max_response=spec.max_response or known.get("max_response"),
        lengths_inherited=spec.max_length is None and spec.max_response is None,
    )


def mismatches(own: Settings, other: Settings) -> list[str]:
    """What makes the rewards of two models incomparable, a line each, given the settings that they state."""
    shared = [key for key in _DECISIVE if key in own and key in other]
    if not any(key in shared for key in ("weights", "revision", "sha256")):
        shared.append("model")
    shared += [key for key in _SAID if key in own or key in other]
    return [f"{key}: {own.get(key)} -> {other.get(key)}" for key in shared if own.get(key) != other.get(key)]


def require_same(own: Settings, other: Settings, folder: DatasetPath) -> None:
    """Raise InputError where `other` is not the model that the dataset was scored with."""
    if different := mismatches(own, other):
        raise InputError(
            f"{folder}: was scored with {own.get('model')}; this is another reward model ({'; '.join(different)}).",
            advice="Rewards of two models cannot be ranked together. Name its own, or say {mix_rewards}.",
        )


def require_same_files(own: Settings, spec: RewardModelSpec, folder: DatasetPath) -> None:
    """`require_same` by what files tell, before any of them is run or loaded."""
    if (files := _files(spec.model)) is not None:
        require_same(own, {**files, **({"score": spec.score} if spec.score == "whole" else {})}, folder)


def _files(model: str) -> Settings | None:
    """What a function or a folder will say of itself; None for servers, the hub, and what is not there."""
    from neat_data.models.weights import ModelSource, identity_of  # torch takes seconds to import

    if model.startswith(_ELSEWHERE):
        return None
    if ".py:" in model:
        file, _, function = model.rpartition(":")
        if not Path(file).is_file():
            return None
        sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        return {"model": f"{Path(file).name}:{function}", "sha256": sha256}
    if not (Path(model) / "config.json").is_file():
        return None
    source = ModelSource.parse(model)
    return {"model": source.label, **identity_of(source)}
