"""The reward model that a dataset was scored with: found again for new responses, and compared with what is found.

Rewards of two models cannot be ranked against each other, so responses that join a dataset are scored by its own model.
The manifest names that model by its hashes and tells no path. Where it was loaded from is noted in a hidden file of the
folder, a hint that is no part of the dataset; what it leads to is held against the hashes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.models.reward import RewardSpec
from neat_data.record import canonical_json
from neat_data.store.atomic import write_atomically

HINT = ".reward-model.json"
# What decides a reward, of the settings that back ends state of themselves. The rest moves it by rounding alone.
_DECISIVE = ("weights", "revision", "sha256", "template", "tokenizer", "max_length", "max_response", "rubric")
_CARRIED = ("dtype", "max_length", "max_response", "model_args")


def remember(folder: Path, spec: RewardSpec) -> None:
    """Note where a model was loaded from, for `spec_of`. Servers are not noted: an address may hold a secret."""
    if spec.model.startswith(("http://", "https://", "judge:")):
        return
    template = spec.chat_template
    hint = {
        "model": _absolute(spec.model),
        "chat_template": template if template in ("auto", "hh") else _absolute(template),
    }
    write_atomically(folder / HINT, lambda file: file.write(canonical_json(hint).encode()))


def _absolute(model: str) -> str:
    path, colon, function = model.partition(":")
    return f"{Path(path).resolve()}{colon}{function}" if Path(path).exists() else model


def spec_of(folder: Path, settings: dict[str, Any], device: str) -> RewardSpec:
    """What loads the model that the dataset in `folder` was scored with.

    Args:
        settings: of that model, as the manifest has them.

    Raises:
        InputError: the dataset's rewards came with its source, or from where nothing can be loaded any more.
    """
    if settings.get("backend") not in ("transformers", "vllm", "callable"):
        kind = "came with its source" if settings.get("model") == "given" else f"came from {settings.get('model')}"
        raise InputError(f"{folder}: its rewards {kind}; say with --reward-model what scores the new responses.")
    hint = _hint(folder)
    model = hint.get("model", settings["model"])
    if "revision" not in settings and not (hint and Path(model.partition(":")[0]).exists()):
        where = f"which is no longer at {model}" if hint else "and where that lies is not noted here"
        raise InputError(
            f"{folder}: was scored with {settings['model']}, {where}.\n"
            "Say with --reward-model where it is; its hashes tell whether it is the same."
        )
    carried = {key: settings[key] for key in _CARRIED if key in settings}
    return RewardSpec(
        model,
        backend="vllm" if settings["backend"] == "vllm" else "auto",
        device=device,
        chat_template=hint.get("chat_template", "auto"),
        **carried,
    )


def completed(spec: RewardSpec, settings: dict[str, Any]) -> RewardSpec:
    """`spec` with the lengths of the dataset's model where the user said nothing of them."""
    if "weights" not in settings and "revision" not in settings:
        return spec
    return replace(
        spec,
        max_length=spec.max_length or settings.get("max_length"),
        max_response=spec.max_response or settings.get("max_response"),
        lengths_inherited=spec.max_length is None and spec.max_response is None,
    )


def _hint(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / HINT).read_text())
    except (OSError, ValueError):
        return {}


def mismatches(own: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What makes the rewards of two models incomparable, a line each, given the settings that they state."""
    shared = [key for key in _DECISIVE if key in own and key in found]
    if not any(key in shared for key in ("weights", "revision", "sha256")):
        shared.append("model")
    return [f"{key}: {own.get(key)} -> {found.get(key)}" for key in shared if own.get(key) != found.get(key)]


def require_same(own: dict[str, Any], found: dict[str, Any], folder: Path) -> None:
    """Raise InputError where `found` is not the model that the dataset was scored with."""
    if different := mismatches(own, found):
        raise InputError(
            f"{folder}: was scored with {own.get('model')}; this is another reward model ({'; '.join(different)}).\n"
            "Rewards of two models cannot be ranked together. Name its own, or say --mix-rewards to do so all the same."
        )
