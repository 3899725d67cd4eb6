"""A PEFT adapter beside a policy's weights: applied in every forward pass, never merged into them.

Merging into bfloat16 weights rounds them, and taking the adapter out again does not bring them back.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from neat_data.errors import InputError
from neat_data.models.source import sha256_of
from neat_data.record import canonical_json

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PLACES = ("base_model_name_or_path", "revision")  # where the base model lay when the adapter was saved


def adapter_hash(folder: str) -> str:
    """sha256 over an adapter's weights and configuration, wherever its base model lay.

    Raises:
        InputError: no such folder, or no adapter with safetensors weights in it.
    """
    for name in (_CONFIG, _WEIGHTS):
        if not (Path(folder) / name).is_file():
            raise InputError(f"--adapter {folder}: has no {name}; give a folder that peft saved with safetensors")
    config = {key: value for key, value in _config(folder).items() if key not in _PLACES}
    weights = sha256_of([Path(folder) / _WEIGHTS])
    return hashlib.sha256(f"{weights} {canonical_json(config)}".encode()).hexdigest()


def with_adapter(model: PreTrainedModel, folder: str) -> Any:
    """The model with the adapter's layers put in place.

    Raises:
        InputError: peft is not installed, or the adapter belongs to another model.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise InputError("--adapter needs peft: pip install 'neat-align[train]'") from error
    if _config(folder).get("peft_type") in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"):
        raise InputError(f"--adapter {folder}: learns a prompt rather than weights, which is not supported")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that are missing, which is an error below
            adapted = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
    except (ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise _misfit(folder, str(error)) from error
    if lost := _names(folder) ^ set(get_peft_model_state_dict(adapted)):
        raise _misfit(folder, f"{min(lost)} stands on one side only")
    return adapted.eval().get_base_model()


def _config(folder: str) -> dict[str, Any]:
    try:
        return json.loads((Path(folder) / _CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"--adapter {folder}: its {_CONFIG} is not JSON ({error})") from error


def _names(folder: str) -> set[str]:
    with safe_open(Path(folder) / _WEIGHTS, framework="pt") as file:
        return set(file.keys())


def _misfit(folder: str, why: str) -> InputError:
    return InputError(
        f"--adapter {folder}: does not fit this policy ({' '.join(why.split())[:160]})\n"
        "give the model that the adapter was trained on"
    )
