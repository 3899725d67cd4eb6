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
from neat_data.models.weights import sha256_of
from neat_data.record import canonical_json
from neat_data.store.claim import readable

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PROMPTS = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")
_PLACES = ("base_model_name_or_path", "revision")  # where the base model lay when the adapter was saved


def adapter_hash(folder: str, field: str = "adapter") -> str:
    """sha256 over an adapter's weights and configuration, wherever its base model lay.

    Args:
        folder: where peft saved it.
        field: the argument that named it, for messages.

    Raises:
        InputError: no such folder, or no adapter with safetensors weights in it.
    """
    for name in (_CONFIG, _WEIGHTS):
        if not (Path(folder) / name).is_file():
            raise InputError(
                f"has no {name}; give a folder that peft saved with safetensors", field=field, value=folder
            )
    config = {key: value for key, value in adapter_config(folder, field).items() if key not in _PLACES}
    weights = sha256_of([Path(folder) / _WEIGHTS])
    with readable(Path(folder) / _CONFIG):
        return hashlib.sha256(f"{weights} {canonical_json(config)}".encode()).hexdigest()


def with_adapter(model: PreTrainedModel, folder: str) -> Any:
    """The model with the adapter's layers put in place.

    Raises:
        InputError: peft is not installed, or the adapter belongs to another model.
    """
    return adapted(model, folder, autocast_adapter_dtype=False).eval().get_base_model()


def adapted(model: PreTrainedModel, folder: str, field: str = "adapter", **options: Any) -> Any:
    """peft's model around `model`, with the adapter in `folder`.

    Args:
        field: the argument that named the folder, for messages.
        options: as `PeftModel.from_pretrained` takes them.

    Raises:
        InputError: peft is not installed, or the adapter belongs to another model.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise InputError("an adapter needs peft: pip install 'neat-align[train]'", field=field) from error
    _require_weights_alone(folder, field)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that are missing, which is an error below
            peft_model = PeftModel.from_pretrained(model, folder, **options)
    except (ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise _misfit(folder, field, str(error)) from error
    if lost := weight_names(folder) ^ set(get_peft_model_state_dict(peft_model)):
        raise _misfit(folder, field, f"{min(lost)} stands on one side only")
    return peft_model


def _require_weights_alone(folder: str, field: str) -> None:
    """Refuses adapters that are more than weights of their own: prompts, adapters of others, modules to import."""
    config = adapter_config(folder, field)
    if str(config.get("peft_type")) in _PROMPTS:
        raise InputError("learns a prompt rather than weights, which is not supported", field=field, value=folder)
    if config.get("peft_type") == "XLORA" or config.get("megatron_config"):
        raise InputError(
            "loads other adapters or modules beside its own weights; not supported", field=field, value=folder
        )


def adapter_config(folder: str, field: str = "adapter") -> dict[str, Any]:
    """What stands in an adapter's configuration file.

    Raises:
        InputError: it is no JSON object.
    """
    try:
        config = json.loads((Path(folder) / _CONFIG).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"its {_CONFIG} is not JSON ({error})", field=field, value=folder) from error
    if not isinstance(config, dict):
        raise InputError(f"its {_CONFIG} is no JSON object", field=field, value=folder)
    return config


def weight_names(folder: str) -> set[str]:
    """What an adapter's weights are called."""
    with safe_open(Path(folder) / _WEIGHTS, framework="pt") as file:
        return set(file.keys())


def _misfit(folder: str, field: str, why: str) -> InputError:
    return InputError(
        f"does not fit its model ({' '.join(why.split())[:160]})\ngive the model that the adapter was trained on",
        field=field,
        value=folder,
    )
