"""Settings that a file records, which somebody else may have written: which of them are followed.

A name on the hub is followed and a path is not; of the arguments of a back end those that can neither load nor run
anything. Whatever else is recorded is for the user to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.store.documents import Arguments

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/\w[\w.-]*(@[\w][\w./-]*)?", re.ASCII)
_DTYPES = ("float32", "bfloat16", "float16")
Check = Callable[[Any], bool]


def _one_of(*values: Any) -> Check:
    return lambda value: isinstance(value, str) and value in values


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


def _flag(value: Any) -> bool:
    return type(value) is bool


def _share(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 1


# Names of kernels on the hub, of classes, of files and of formats are code or lead to some; these values cannot.
_ARGUMENTS: dict[str, Check] = {
    "attn_implementation": _one_of("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
    "device_map": _one_of("auto", "balanced", "balanced_low_0", "sequential"),
    "enable_chunked_prefill": _flag,
    "enable_prefix_caching": _flag,
    "enforce_eager": _flag,
    "gpu_memory_utilization": _share,
    "kv_cache_memory_bytes": _count,
    "max_num_batched_tokens": _count,
    "max_num_seqs": _count,
    "pipeline_parallel_size": _count,
    "quantization": _one_of("awq", "bitsandbytes", "fp8", "gptq"),
    "tensor_parallel_size": _count,
}
_SCORING: dict[str, Check] = {
    "dtype": _one_of(*_DTYPES),
    "max_length": _count,
    "max_response": _count,
}


def is_hub_id(name: Any) -> bool:
    """Whether a recorded name can mean nothing but a model on the hub.

    >>> [is_hub_id(name) for name in ("org/name", "org/name@3f2a", "../name", "/org/name", "org/rm.py:rate", None)]
    [True, True, False, False, False, False]
    """
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        return False
    return not Path(name).exists() and not Path(name.partition("@")[0]).exists()


def scoring(settings: Mapping[str, Any]) -> Arguments:
    """The dtype and the lengths that a reward model scored with, as far as they are recorded.

    Raises:
        InputError: one of them is no dtype, or no length.
    """
    known = {name: settings[name] for name in _SCORING if settings.get(name) is not None}
    for name, value in known.items():
        if not _SCORING[name](value):
            raise InputError(f"the recorded {name} of reward model {settings.get('model')} makes no sense: {value!r}")
    return known


def arguments(settings: Mapping[str, Any], advice: str, said: Collection[str] = ()) -> Arguments:
    """The arguments that a reward model's back end was given, where they may be given again on a file's word.

    Args:
        settings: of the model, as they are recorded.
        advice: what to do where they may not, as `NeatError` takes it.
        said: arguments that the user gave, which win.

    Raises:
        InputError: one of the others is for the user to say.
    """
    recorded = settings.get("model_args") or {}
    if not isinstance(recorded, dict):
        raise InputError(f"the recorded model_args of reward model {settings.get('model')} make no sense: {recorded!r}")
    left = {name: value for name, value in recorded.items() if name not in said}
    for name, value in left.items():
        if name not in _ARGUMENTS or not _ARGUMENTS[name](value):
            raise InputError(
                f"reward model {settings.get('model')}: is recorded to have been loaded with {name}={value}, which is "
                "not done on a file's word.",
                advice=advice,
            )
    return left
