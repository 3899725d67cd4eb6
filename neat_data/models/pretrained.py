"""A classifier with one output, or a causal language model, from a folder or the hub.

transformers initialises missing weights at random with no more than a warning; here that is an error. A hub id is
resolved to its commit once, so that another process, or a run tomorrow, loads the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from neat_data.errors import InputError
from neat_data.models.attention_choice import without_argument
from neat_data.models.reward import RewardSpec
from neat_data.models.sampler import SamplerSpec
from neat_data.models.source import Source, explained, identity_of

_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode on the CPU (or where `device_map` put it), and what identifies it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: Source
    identity: dict[str, str]


def load_classifier(spec: RewardSpec, dtype: torch.dtype) -> Loaded:
    """Load the reward model that `spec` names.

    Raises:
        InputError: it cannot be had, has no score head or more than one output, or its weights are damaged.
    """
    source = load_classifier_source(spec)
    with silence(), explained(source):
        loaded, missing = _load(AutoModelForSequenceClassification, source, spec, dtype)
    if missing:
        raise InputError(
            f"--reward-model {source.path}: has no score head that fits ({missing} is missing from its weights)\n"
            "give a model trained as a sequence classifier with one output"
        )
    return loaded


def load_classifier_source(spec: RewardSpec) -> Source:
    """Where a reward model comes from, a hub id resolved to its commit; no weights are read, errors are the same."""
    source = Source.parse(spec.model)
    with silence(), explained(source):
        return resolved(source, _config_of(source, spec, check_head))


def policy_source(model: str) -> Source:
    """Where a policy comes from; InputError where what looks like a folder does not exist."""
    return Source.parse(model, "--policy", "causal language model")


def load_policy(spec: SamplerSpec, dtype: torch.dtype) -> Loaded:
    """Load the causal language model that `spec` names, without its adapter.

    Raises:
        InputError: it cannot be had, does not generate, has no tokenizer, or its weights are damaged.
    """
    source, _ = load_policy_config(spec)
    with silence(), explained(source):
        loaded, missing = _load(AutoModelForCausalLM, source, spec, dtype)
    if missing:
        raise InputError(
            f"--policy {source.path}: {missing} is missing from its weights\n"
            "copy or download it again, or give a model that was saved as a causal language model"
        )
    return loaded


def load_policy_shape(spec: SamplerSpec) -> tuple[Source, PreTrainedConfig, PreTrainedTokenizerBase]:
    """Where a policy comes from, its configuration and its tokenizer, for back ends that load the weights themselves.

    Errors as `load_policy`.
    """
    source, config = load_policy_config(spec)
    with silence(), explained(source):
        return source, config, _tokenizer_of(source, spec)


def load_policy_config(spec: SamplerSpec) -> tuple[Source, PreTrainedConfig]:
    """Where a policy comes from, a hub id resolved to its commit, and its configuration; errors as `load_policy`."""
    source = policy_source(spec.model)
    with silence(), explained(source):
        config = _config_of(source, spec, check_generative)
    return resolved(source, config), config


def resolved(source: Source, config: PreTrainedConfig) -> Source:
    """A hub id with the commit that its configuration came from; a folder as it is."""
    return source if source.local else replace(source, revision=config._commit_hash or source.revision)


@contextmanager
def silence() -> Iterator[None]:
    """No bar, no warnings from transformers and the hub: what matters of them is checked here and said in one line."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub_level = hub_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if bars:
            transformers_logging.enable_progress_bar()


def _config_of(source: Source, spec: RewardSpec | SamplerSpec, check: Any) -> PreTrainedConfig:
    if (Path(source.path) / "adapter_config.json").exists() and not (Path(source.path) / "config.json").exists():
        raise InputError(
            f"{source.option} {source.path}: is an adapter without its model; give the model it belongs to"
        )
    config = AutoConfig.from_pretrained(source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code)
    if not spec.trust_remote_code:
        refuse_kernels(config, source)
    check(config, source.path)
    return config


def refuse_kernels(config: PreTrainedConfig, source: Source) -> None:
    """Refuses a configuration that asks for kernels of a repository, which are code that comes with no model class."""
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    names = (getattr(part, f"_{kind}_implementation", None) for part in parts for kind in ("attn", "experts"))
    if kernel := next((name for name in names if isinstance(name, str) and "/" in name), None):
        raise InputError(
            f"{source.option} {source.path}: its config.json asks for the code of {kernel}\n"
            "if you trust its author, add --trust-remote-code"
        )


def _tokenizer_of(source: Source, spec: RewardSpec | SamplerSpec) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(
        source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code
    )
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # made up from the kind of model where there are no files
        raise ValueError("its tokenizer has no vocabulary")
    return tokenizer


def _load(kind: Any, source: Source, spec: RewardSpec | SamplerSpec, dtype: torch.dtype) -> tuple[Loaded, str | None]:
    """The model, and the name of a weight that its files lack or hold in another shape."""
    tokenizer = _tokenizer_of(source, spec)
    model, report = kind.from_pretrained(
        source.path,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        revision=source.revision,
        trust_remote_code=spec.trust_remote_code,
        **without_argument(spec.model_args),
    )
    wrong = sorted(report["missing_keys"]) or sorted(map(str, report["mismatched_keys"]))
    return Loaded(model.eval(), tokenizer, source, identity_of(source)), wrong[0] if wrong else None


def check_head(config: PreTrainedConfig, name: str) -> None:
    """Refuses, before any weights are read, a configuration that cannot give one reward."""
    kinds = config.architectures or []
    if kinds and all(kind.endswith(_CAUSAL) for kind in kinds):
        raise InputError(
            f"--reward-model {name}: has no score head, it is a generative model ({kinds[0]})\n"
            "give a model trained as a sequence classifier with one output"
        )
    if config.num_labels != 1:
        raise InputError(
            f"--reward-model {name}: has {config.num_labels} outputs, a reward model has one\n"
            "give a sequence classifier with num_labels = 1"
        )


def check_generative(config: PreTrainedConfig, name: str) -> None:
    """Refuses, before any weights are read, a configuration of a model that does not continue a text."""
    kinds = config.architectures or []
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"--policy {name}: is an encoder with a decoder; give a causal language model")
    if kinds and not any(kind.endswith(_CAUSAL) for kind in kinds):
        what = "a classifier" if any("Classification" in kind for kind in kinds) else "an encoder"
        raise InputError(f"--policy {name}: is {what} ({kinds[0]}) and generates no text; give a causal language model")
