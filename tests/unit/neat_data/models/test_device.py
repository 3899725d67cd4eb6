"""Devices without having any: names, running out of memory, and a stand-in for an Ascend card."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from neat_data.errors import InputError
from neat_data.models.device import (
    dtype_name,
    is_out_of_memory,
    out_of_memory_as_ours,
    release,
    resolve_device,
    resolve_dtype,
    worker_devices,
)
from neat_data.models.out_of_memory import OutOfMemory

CPU = torch.device("cpu")

# A privateuse1 backend named npu with two cards: names resolve, allocation would raise.
STAND_IN = """
import sys, types, torch
torch.utils.rename_privateuse1_backend("npu")
stub = types.ModuleType("torch_npu_stub")
stub.is_available = lambda: True
stub.device_count = lambda: 2
stub.current_device = lambda: 0
stub._is_in_bad_fork = lambda: False
stub.manual_seed_all = lambda seed: None
torch._register_device_module("npu", stub)
torch.accelerator.device_count = lambda: 2
torch.accelerator.current_accelerator = lambda check_available=False: torch.device("npu")
from neat_data.models.device import *
print(resolve_device("auto"), resolve_device("npu"), resolve_device("npu:1"))
print(resolve_dtype("auto", resolve_device("npu")))
print(worker_devices("npu", 0), worker_devices("npu:1", 0), worker_devices("npu", 1))
for name in ("npu:2", "cuda"):
    try:
        resolve_device(name)
    except Exception as error:
        print(error)
"""


def test_cpu_names_and_dtypes() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_dtype("auto", CPU) == torch.float32
    assert resolve_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert resolve_dtype("float16", CPU) == torch.float16
    assert dtype_name(torch.bfloat16) == "bfloat16"
    assert worker_devices("cpu", 0) == ["cpu"]
    assert worker_devices("cpu", 2) == ["cpu", "cpu"]


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda", "npu", ""])
def test_unknown_or_absent_devices_are_refused(name: str) -> None:
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(InputError, match="device"):
        resolve_device(name)


def test_an_ascend_card_is_found_by_name_and_by_auto() -> None:
    done = subprocess.run([sys.executable, "-c", STAND_IN], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "npu:0 npu:0 npu:1",
        "torch.bfloat16",
        "['npu:0', 'npu:1'] ['npu:1'] ['npu:0']",
        "device npu:2: there are 2, counted from 0",
        "device cuda: this machine has no usable cuda device; auto takes what it has",
    ]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("NPU out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_every_way_of_running_out_of_memory_is_one_error(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match="4096 tokens"), out_of_memory_as_ours(CPU, 4096):
        raise error


def test_the_cpu_really_says_so() -> None:
    with pytest.raises(OutOfMemory), out_of_memory_as_ours(CPU, 1):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory_as_ours(CPU, 1):
        raise RuntimeError("shapes do not match")


def test_release_needs_no_accelerator() -> None:
    release()
