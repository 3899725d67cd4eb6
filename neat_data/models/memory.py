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
from transformers import AutoConfig, PreTrainedConfig

from neat_data.errors import InputError
from neat_data.models.choose_path import free_memory
from neat_data.models.device import resolve_device, resolve_dtype
from neat_data.models.pretrained import policy_source
from neat_data.models.reward import RewardSpec
from neat_data.models.sampler import SamplerSpec
from neat_data.models.source import Source, explained

_GB = 1e9
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


def estimate(spec: SamplerSpec | RewardSpec) -> Need:
    """What `spec` will need on its device; nothing for a server, a Python function, or what cannot be known.

    Raises:
        InputError: no such model, device or dtype.
    """
    if _elsewhere(spec):
        return Need(spec.model, 0)
    source = policy_source(spec.model) if isinstance(spec, SamplerSpec) else Source.parse(spec.model)
    device = resolve_device(spec.device)
    size = resolve_dtype(spec.dtype, device).itemsize
    weights = sum(count * _KEPT.get(kind, size) for kind, count in _tensors(source))
    own_cache = isinstance(spec, SamplerSpec) and spec.backend != "vllm"  # vLLM is told how much to take
    cache = _cache_bytes(source, spec, size, device) if own_cache else 0
    return Need(source.label, weights, cache)


def check(needs: Sequence[Need], device: str) -> None:
    """Refuse what cannot fit side by side on a device.

    Raises:
        InputError: the needs' sum is above what is free, naming the sum and its parts.
    """
    found = resolve_device(device)
    free = free_bytes(found)
    total = sum(need.total for need in needs)
    if total <= free:
        return
    parts = "; ".join(f"{need.name}: {_parts(need)}" for need in needs)
    raise InputError(
        f"needs {total / _GB:.1f} GB ({parts}), {free / _GB:.1f} GB are free on {found}\n"
        "try --dtype bfloat16, a smaller --token-budget, or --phase sample and then --phase score"
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


def _elsewhere(spec: SamplerSpec | RewardSpec) -> bool:
    if isinstance(spec, SamplerSpec):
        return spec.base_url is not None or spec.backend == "openai" or "device_map" in spec.model_args
    return (
        spec.model.startswith(("http://", "https://", "judge:"))
        or ".py:" in spec.model
        or "device_map" in spec.model_args
    )


def _cache_bytes(source: Source, spec: Any, size: int, device: torch.device) -> int:
    from neat_data.models.sampler_transformers import budget_of

    with explained(source):
        config = AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code
        )
    # Rows that leave a batch are copied beside it, layer by layer.
    layers = config.get_text_config().num_hidden_layers
    return cache_bytes(config, budget_of(spec, device), size) * (layers + 1) // layers


def _tensors(source: Source) -> Iterator[tuple[str, int]]:
    """Type and count of numbers of every tensor."""
    if source.local:
        for file in sorted(Path(source.path).glob("*.safetensors")):
            yield from _header(file)
        return
    try:
        found = get_safetensors_metadata(source.path, revision=source.revision)
    except (NotASafetensorsRepoError, SafetensorsParsingError, HfHubHTTPError, httpx.HTTPError, OSError):
        return
    yield from found.parameter_count.items()


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
