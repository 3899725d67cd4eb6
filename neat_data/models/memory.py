"""What a model will need in memory, estimated from its files before it is loaded, and refused where it cannot fit.

Weights are counted from the headers of safetensors files, the cache of a sampler from the model's configuration. What
cannot be known (a hub model whose headers cannot be read, a server) counts nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import get_safetensors_metadata
from huggingface_hub.errors import (
    HfHubHTTPError,
    NotASafetensorsRepoError,
    SafetensorsParsingError,
)
from transformers import PreTrainedConfig

from neat_data.errors import InputError
from neat_data.models.device import resolve_device, resolve_dtype
from neat_data.models.reward_adapter import is_adapter, reward_source
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.sampler import SamplerSpec
from neat_data.models.trees.exactness import free_memory
from neat_data.models.weights import ModelSource, load_policy_config

_GB = 1e9
# (query + new tokens) x rows of a sampler's batch: on a CPU more no longer pay; a card wants more to do at once.
CPU_BUDGET = 16_384
ACCELERATOR_BUDGET = 65_536
# Types of a safetensors header that `dtype` does not change: what is quantised stays as it is.
_KEPT = {"I8": 1, "U8": 1, "I16": 2, "I32": 4, "I64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a model takes: its weights, and the keys and values of one batch."""

    name: str
    weights: int
    cache: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache


def estimate(spec: SamplerSpec | RewardModelSpec) -> Need:
    """What `spec` will need on its device; nothing for a server, a Python function, or what cannot be known.

    Raises:
        InputError: no such model, device or dtype.
    """
    if _elsewhere(spec):
        return Need(spec.model, 0)
    device = resolve_device(spec.device)
    size = resolve_dtype(spec.dtype, device).itemsize
    if isinstance(spec, SamplerSpec):
        source, config = load_policy_config(spec)
        cache = 0 if spec.backend == "vllm" else _batch_bytes(config, budget_of(spec, device), size)
    else:
        source, cache = ModelSource.parse(spec.model), 0
    sources = [source]
    if isinstance(spec, RewardModelSpec) and is_adapter(source.path) and (base := reward_source(spec).base):
        sources.append(base)
    weights = sum(count * _KEPT.get(kind, size) for one in sources for kind, count in _tensors(one))
    return Need(source.label, weights, cache)


def check(needs: Sequence[Need], device: str) -> None:
    """Refuse what cannot fit side by side on a device.

    Raises:
        InputError: the needs' sum is above what is free, naming the sum and its parts.
    """
    resolved = resolve_device(device)
    free = free_bytes(resolved)
    total = sum(need.total for need in needs)
    if total <= free:
        return
    parts = "; ".join(f"{need.name}: {_parts(need)}" for need in needs)
    raise InputError(
        f"needs {total / _GB:.1f} GB ({parts}), {free / _GB:.1f} GB are free on {resolved}",
        advice="try {dtype} bfloat16, a smaller {token_budget}, or {phase} sample and then {phase} score",
    )


def free_bytes(device: torch.device) -> float:
    """Bytes that a device can still give; without end where it does not say."""
    if device.type == "cpu":
        return free_memory()
    backend = getattr(torch, device.type)
    return float(backend.mem_get_info(device)[0]) if hasattr(backend, "mem_get_info") else math.inf


def cache_bytes(config: PreTrainedConfig, tokens: int, size: int) -> int:
    """Keys and values of so many tokens, in numbers of `size` bytes; every layer is counted as full attention."""
    config = config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return (
        2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width * tokens * size
    )


def budget_of(spec: SamplerSpec, device: torch.device) -> int:
    """The token budget asked for, or the device's; InputError where it is none."""
    budget = spec.token_budget or (CPU_BUDGET if device.type == "cpu" else ACCELERATOR_BUDGET)
    if budget < 1:
        raise InputError("must be at least 1", field="token_budget", value=budget)
    return budget


def _elsewhere(spec: SamplerSpec | RewardModelSpec) -> bool:
    if isinstance(spec, SamplerSpec):
        return spec.base_url is not None or spec.backend == "openai" or "device_map" in spec.model_args
    return (
        spec.model.startswith(("http://", "https://", "judge:", "implicit:"))
        or ".py:" in spec.model
        or "device_map" in spec.model_args
    )


def _batch_bytes(config: PreTrainedConfig, tokens: int, size: int) -> int:
    """The cache of one batch, and the copy of a layer that is made when rows leave it."""
    layers = config.get_text_config().num_hidden_layers
    return cache_bytes(config, tokens, size) * (layers + 1) // layers


def _tensors(source: ModelSource) -> Iterator[tuple[str, int]]:
    """Type and count of numbers of every tensor."""
    if source.local:
        for file in sorted(Path(source.path).glob("*.safetensors")):
            yield from _header(file)
        return
    try:
        metadata = get_safetensors_metadata(source.path, revision=source.revision)
    except (NotASafetensorsRepoError, SafetensorsParsingError, HfHubHTTPError, httpx.HTTPError, OSError):
        return
    yield from metadata.parameter_count.items()


def _header(file: Path) -> Iterator[tuple[str, int]]:
    """From the file's first bytes; nothing where they are no header, which loading will explain."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            entries: dict[str, Any] = json.loads(opened.read(length)) if length < file.stat().st_size else {}
        except ValueError:
            return
    for name, entry in entries.items():
        if name != "__metadata__":
            yield entry["dtype"], math.prod(entry["shape"])


def _parts(need: Need) -> str:
    weights = f"weights {need.weights / _GB:.1f}"
    return f"{weights} + cache {need.cache / _GB:.1f}" if need.cache else weights
