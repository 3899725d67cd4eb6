"""vLLM itself, for the back ends that run in it: imported quietly, started for one model, and ended.

On a CPU an engine runs in this process, and the first one to end takes with it what all of them share: what is to
follow in the same process waits for `end`.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedConfig

from neat_data.errors import InputError, RunError
from neat_data.models.device import is_out_of_memory, release, resolve_device
from neat_data.models.memory import cache_bytes
from neat_data.models.out_of_memory import OutOfMemory
from neat_data.store.documents import Arguments

_LEAST_CACHE = 64 << 20
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout belongs to --json
}


def first_device(name: str) -> torch.device:
    """The device that `name` stands for, as vLLM will see it.

    A worker's own card becomes the only one that its engine sees; InputError for another card than the first elsewhere.
    """
    device = resolve_device(name)
    if device.index and multiprocessing.parent_process() is not None:
        see_alone(device, os.environ)
        return torch.device(device.type, 0)
    if device.index:
        raise InputError(
            "vLLM takes the first card it sees; choose it with CUDA_VISIBLE_DEVICES,",
            field="device",
            value=name,
            advice="or spread one model over several with {model_args} tensor_parallel_size=N and {workers} 1",
        )
    return device


def see_alone(device: torch.device, environment: MutableMapping[str, str]) -> None:
    """Leave one card to processes that are started from now on: vLLM's engine on a card is one."""
    variable = "ASCEND_RT_VISIBLE_DEVICES" if device.type == "npu" else "CUDA_VISIBLE_DEVICES"
    visible = environment.get(variable, "").split(",")
    environment[variable] = visible[device.index].strip() if visible != [""] else str(device.index)


def import_vllm(device: torch.device, option: str) -> Any:
    """vLLM, told to be quiet; on a CPU inside this process, which starts it in seconds.

    Raises:
        InputError: it is not installed, or was built for another device; `option` is what asked for it.
    """
    environment = dict(_ENVIRONMENT)
    if device.type == "cpu":
        environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InputError(
            f"{option} needs vLLM: pip install 'neat-align[vllm]' ({error})\non a machine without a GPU: make vllm"
        ) from error
    if current_platform.device_type != device.type:
        raise InputError(
            f"the vLLM installed here runs on {current_platform.device_type}", field="device", value=device.type
        )
    return vllm


def sleeps(options: Arguments) -> bool:
    """Whether an engine can sleep; an option that its platform lacks is taken out of `options`."""
    from vllm.platforms import current_platform

    if options.get("enable_sleep_mode") and not current_platform.is_sleep_mode_available():
        del options["enable_sleep_mode"]
    return bool(options.get("enable_sleep_mode"))


def start(vllm: Any, path: str, revision: str | None, options: Arguments) -> Any:
    """An engine for the model at `path`; InputError with vLLM's reason where it does not start."""
    try:
        return vllm.LLM(model=path, revision=revision, tokenizer_revision=revision, use_tqdm_on_load=False, **options)
    except Exception as error:  # what vLLM raises while starting is of every kind
        raise InputError(f"vLLM cannot run {path}: {type(error).__name__}: {first_line(error)}") from error


def end(engine: Any) -> None:
    """Give the memory back, so that another engine or a model of transformers can take it."""
    engine.llm_engine.engine_core.shutdown()
    gc.collect()
    release()


@contextmanager
def errors_in_our_words() -> Iterator[None]:
    """Raises OutOfMemory or RunError for what stops a running engine."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise OutOfMemory("vLLM ran out of memory", advice="try a smaller {token_budget}") from error
        raise RunError(f"vLLM stopped: {first_line(error)}; run the same command again to go on") from error


def cache_room(config: PreTrainedConfig, tokens: int, size: int) -> int:
    """Bytes for the keys and values of so many tokens, in numbers of `size` bytes; a few MiB at least.

    It is given to vLLM because its own guess fails on some memory layouts of CPUs, and takes most of a card.
    """
    return max(_LEAST_CACHE, cache_bytes(config, tokens, size))


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
