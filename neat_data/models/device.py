"""Which device and which number format a model runs on, and what running out of memory looks like there.

Names are those of the command line: `auto`, `cpu`, `cuda`, `npu`, or one device of several (`cuda:1`). Everything goes
through `torch.accelerator`, so that an Ascend card needs no branch of its own beyond being found.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from neat_data.errors import InputError
from neat_data.models.out_of_memory import OutOfMemory

KINDS = ("cpu", "cuda", "npu")
# From torch's CPU allocator (two versions of it) and from torch_npu.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """The device that `name` stands for; `auto` is the accelerator if there is one, else the CPU.

    Raises:
        InputError: an unknown name, a kind that this machine lacks, a number beyond the last device.
    """
    if name == "auto":
        kind = _accelerator()
        return torch.device(kind, 0) if kind else torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind not in KINDS or (number and not number.isdecimal()):
        raise InputError("unknown; choose auto, cpu, cuda, npu, or one card such as cuda:1", field="device", value=name)
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "npu":
        _import_torch_npu()
    if _accelerator() != kind:
        raise InputError(
            f"this machine has no usable {kind} device; auto takes what it has", field="device", value=name
        )
    if int(number or 0) >= torch.accelerator.device_count():
        raise InputError(f"there are {torch.accelerator.device_count()}, counted from 0", field="device", value=name)
    return torch.device(kind, int(number or 0))


def worker_devices(name: str, workers: int) -> list[str]:
    """A device for each of some worker processes; 0 workers is one for every device that `name` covers.

    A card takes one process. Any number may share the CPU, and 0 is one process there.

    Raises:
        InputError: more workers than cards.
    """
    device = resolve_device(name)
    if device.type == "cpu":
        return ["cpu"] * max(workers, 1)
    count = 1 if ":" in name else torch.accelerator.device_count()
    names = [name] if ":" in name else [f"{device.type}:{number}" for number in range(count)]
    if workers > count:
        raise InputError(
            f"there are {count} devices of {name}; a card takes one process", field="workers", value=workers
        )
    return names[: workers or count]


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on accelerators and float32 on the CPU, where runs are to be equal byte for byte."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise InputError(f"unknown; choose auto, {', '.join(DTYPES)}", field="dtype", value=name)
    return DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """The command line's name of a dtype: `float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def device_name(asked: str, device: torch.device) -> str:
    """One card where one was asked for, else the kind, which leaves workers the others."""
    return str(device) if ":" in asked else device.type


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: CPU and NPU say so in a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


@contextmanager
def out_of_memory_as_ours(device: torch.device, budget: int) -> Iterator[None]:
    """Turns any way of running out of memory into `OutOfMemory` and gives cached blocks back to the device."""
    try:
        yield
        return
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Raised outside the handler: the exception's traceback would keep the tensors of the failed pass alive.
    release()
    raise OutOfMemory(f"{device} has no room for a pass of {budget} tokens", advice="try a smaller {token_budget}")


def release() -> None:
    """Gives cached blocks back to an accelerator; the CPU keeps none, and `torch.accelerator` raises without one."""
    if _accelerator() is not None:
        torch.accelerator.empty_cache()


def _accelerator() -> str | None:
    """`cuda` or `npu` where one can be used. transformers' own question about NPUs raises where CANN is missing."""
    accelerator = torch.accelerator.current_accelerator(check_available=False)
    if accelerator is None or accelerator.type not in KINDS:
        return None
    backend = getattr(torch, accelerator.type, None)
    return accelerator.type if backend is not None and backend.is_available() else None


def _import_torch_npu() -> None:
    """Imported only when asked for: where CANN is missing the import breaks torch itself."""
    if hasattr(torch, "npu"):
        return
    if importlib.util.find_spec("torch_npu") is None:
        raise InputError(
            "needs torch_npu: pip install 'neat-align[npu]' on a machine with CANN", field="device", value="npu"
        )
    try:
        importlib.import_module("torch_npu")
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"torch_npu does not load ({error}); is CANN's set_env.sh sourced?", field="device", value="npu"
        ) from error
