"""A reward model that peft saved: an adapter with its score head, beside the model that it belongs to.

The base model is the one on the hub that the adapter names, the one with the weights that `base.json` tells (`fit`
leaves that file, and a note in the user's cache of where such weights lie), or what the user names. A path in the
adapter's own configuration is never followed: the folder may come from anybody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from neat_data.errors import InputError
from neat_data.models import places
from neat_data.models.adapter import adapted, adapter_config, adapter_hash, weight_names
from neat_data.models.base_model import noted_base, require_base
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.weights import (
    Loaded,
    ModelSource,
    explained,
    identity_of,
    load_body_of_classifier,
    load_classifier,
    load_classifier_source,
    resolved,
    silence,
)
from neat_data.store import recorded

BASE = "base.json"  # what identifies the model that the adapter was trained on
_CONFIG = "adapter_config.json"
_FILES = ("adapter_config.json", "adapter_model.safetensors", BASE, "*.jinja", "*token*", "vocab.*", "merges.txt")
_HEADS = ("score.weight", "classifier.weight")


@dataclass(frozen=True, slots=True)
class RewardSource:
    """Where a reward model comes from.

    Attributes:
        source: of the model, or of the adapter.
        adapter: the adapter's folder; None for a model that is whole.
        base: the model that the adapter belongs to.
    """

    source: ModelSource
    adapter: str | None = None
    base: ModelSource | None = None

    @property
    def identity(self) -> dict[str, str]:
        """What decides the rewards: `identity_of` the model, and the adapter's hash."""
        if self.adapter is None or self.base is None:
            return identity_of(self.source)
        return {**identity_of(self.base), "adapter": adapter_hash(self.adapter, "reward_model")}


def reward_source(spec: RewardModelSpec) -> RewardSource:
    """Where the reward model comes from, hub ids resolved to their commits; no weights are read.

    Raises:
        InputError: no such model, no score head; an adapter whose base model is not known, or is another one.
    """
    source = ModelSource.parse(spec.model)
    adapter, source = _adapter_of(source)
    if adapter is None:
        if spec.base is not None:
            raise InputError("is no adapter, and needs no model beside it", field="reward_model", value=spec.model)
        return RewardSource(load_classifier_source(spec))
    base = ModelSource.parse(base_of(adapter, spec.base), field="base" if spec.base else "reward_model")
    with silence(), explained(base):
        base = resolved(base, _config_of(base, spec))
    return RewardSource(source, adapter, base)


def load_reward_weights(spec: RewardModelSpec, dtype: torch.dtype) -> Loaded:
    """Load the reward model that `spec` names, a whole one or an adapter with its base.

    Raises:
        InputError: it cannot be had, has no score head or more than one output, or the adapter is of another model.
    """
    located = reward_source(spec)
    if located.adapter is None or located.base is None:
        return load_classifier(spec, dtype)
    heads = _heads(located.adapter)
    model, missing = load_body_of_classifier(located.base, spec, dtype)
    if missing and not (heads and all(_is_head(name) for name in missing)):
        raise located.source.wrong(f"has no score head, and neither has its base model {located.base.reference}")
    options = {"autocast_adapter_dtype": False, "config": _classifier_config(located.adapter, heads)}
    model = _without_wrappers(adapted(model, located.adapter, "reward_model", **options))
    with silence(), explained(located.source):
        tokenizer = AutoTokenizer.from_pretrained(
            located.adapter if _has_tokenizer(located.adapter) else located.base.path,
            revision=None if _has_tokenizer(located.adapter) else located.base.revision,
            trust_remote_code=spec.trust_remote_code,
        )
    return Loaded(model.eval(), tokenizer, located.source, located.identity)


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (Path(folder) / _CONFIG).is_file() and not (Path(folder) / "config.json").is_file()


def _adapter_of(source: ModelSource) -> tuple[str | None, ModelSource]:
    """The adapter's folder, None where the model is whole; and the source with its commit."""
    if source.local:
        return (source.path if is_adapter(source.path) else None), source
    with silence(), explained(source):
        if _on_hub(source, "config.json") or not _on_hub(source, _CONFIG):
            return None, source
        folder = snapshot_download(source.path, revision=source.revision, allow_patterns=list(_FILES))
    return folder, replace(source, revision=Path(folder).name)  # the cache keeps each commit in a folder of its name


def _on_hub(source: ModelSource, name: str) -> bool:
    file = cached_file(source.path, name, revision=source.revision, _raise_exceptions_for_missing_entries=False)
    return file is not None


def base_of(adapter: str, named: str | None) -> str:
    """What loads the model that an adapter belongs to."""
    config, weights = adapter_config(adapter, "reward_model"), _weights_of_base(adapter)
    key = {"adapter": adapter_hash(adapter, "reward_model")}
    if named is not None:
        require_base(adapter, named, weights)
        places.note("reward model", key, {"base": places.absolute(named)})
        return named
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if recorded.is_hub_id(full := f"{base}@{revision}" if revision else base):
        return str(full)
    if (noted := noted_base(weights)) is not None:
        return noted
    if (before := places.noted("reward model", key).get("base")) is not None:
        require_base(adapter, before, weights)
        return before
    what = f"the folder {Path(base).name}, and no path is followed on a file's word" if base else "not named"
    raise InputError(
        f"is an adapter whose base model is {what}",
        field="reward_model",
        value=adapter,
        advice="name it once, if you trust it: neat-data score … --base FOLDER; later commands find it again",
    )


def _weights_of_base(adapter: str) -> str | None:
    """The hash of the base model's weights, as `base.json` says it; None where that says nothing."""
    file = Path(adapter) / BASE
    try:
        content = json.loads(file.read_bytes()) if file.is_file() else {}
        return str(content["weights"]) if "weights" in content else None
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"its {BASE} cannot be read ({error})", field="reward_model", value=adapter) from error


def _config_of(base: ModelSource, spec: RewardModelSpec) -> PreTrainedConfig:
    return AutoConfig.from_pretrained(base.path, revision=base.revision, trust_remote_code=spec.trust_remote_code)


def _heads(adapter: str) -> list[str]:
    """The score heads among an adapter's weights.

    Raises:
        InputError: one has more than one output.
    """
    heads = [name for name in sorted(weight_names(adapter)) if name.endswith(_HEADS)]
    with safe_open(Path(adapter) / "adapter_model.safetensors", framework="pt") as file:
        outputs = [file.get_slice(name).get_shape()[0] for name in heads]
    if wrong := next((count for count in outputs if count != 1), None):
        raise InputError(f"has {wrong} outputs, a reward model has one", field="reward_model", value=adapter)
    return heads


def _classifier_config(adapter: str, heads: list[str]) -> Any:
    """The adapter's configuration as that of a classifier: some say another task, or nothing of their head."""
    from peft import PeftConfig

    config: Any = PeftConfig.from_pretrained(adapter)
    config.task_type = "SEQ_CLS" if heads else None
    return config


def _is_head(name: str) -> bool:
    return name.endswith(_HEADS)


def _has_tokenizer(folder: str) -> bool:
    return (Path(folder) / "tokenizer_config.json").is_file()


def _without_wrappers(model: Any) -> PreTrainedModel:
    """The transformers model with the adapter's layers in it, and its own head in the place of peft's two."""
    from peft.utils import ModulesToSaveWrapper

    body = model.get_base_model()
    for name, module in list(body.named_children()):
        if isinstance(module, ModulesToSaveWrapper):
            setattr(body, name, module.modules_to_save["default"])
    return body
