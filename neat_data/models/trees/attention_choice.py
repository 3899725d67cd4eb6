"""Which attention over trees runs on a device: taken in order of speed, each only if it is proved right there.

The proof is a comparison on the device itself with attention tree by tree in float32, on a layout with every kind of
part: forward as scoring runs it, or forward and backward for training. Whatever a compiler or a kernel raises there is
a reason in one line, and the next one is tried; nothing falls back without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from neat_data.errors import InputError
from neat_data.models.device import is_out_of_memory
from neat_data.models.trees.attention import (
    KINDS,
    TREES_FLEX,
    TREES_SDPA,
    TREES_VARLEN,
    plant,
    tree_flex,
    tree_sdpa,
    tree_varlen,
)
from neat_data.store.documents import Arguments

ARGUMENT = "tree_attention"  # as `--model-arg tree_attention=flex`
AUTO = "auto"
_FUNCTIONS = {TREES_SDPA: tree_sdpa, TREES_FLEX: tree_flex, TREES_VARLEN: tree_varlen}
_NAMES = {function: name for name, function in KINDS.items()}
# Fastest first, as measured (benchmarks/results/gpu-*.json). In float32, where products take 15 times as long, the many
# small calls of attention tree by tree are lost in them, and nothing needs to be compiled.
_CUDA_ORDER = {True: (TREES_VARLEN, TREES_FLEX, TREES_SDPA), False: (TREES_SDPA,)}
# Of the norm of an output or a gradient: half precision rounds by 2^-9 and 2^-12 at every step.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 2e-2}
# Parts below, at and above the blocks of kernels; an empty prefix; one branch; a row that is a multiple of 128.
_LAYOUT = ((130, 40, 7), (0, 60, 90), (300, 129), (1, 1, 2, 128), (128, 128), (64, 72))


@dataclass(frozen=True, slots=True)
class Heads:
    """The shape of a model's attention."""

    query: int
    key: int
    size: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Heads | None:
        """As a configuration names it; None where it does not."""
        config = config.get_text_config()
        query = getattr(config, "num_attention_heads", None)
        size = getattr(config, "head_dim", None)
        if not query or not (size or getattr(config, "hidden_size", None)):
            return None
        return cls(query, getattr(config, "num_key_value_heads", None) or query, size or config.hidden_size // query)


def asked_attention(model_args: Arguments | None) -> str:
    """What `model_args` say under `tree_attention`.

    Raises:
        InputError: something else than auto or one of the three.
    """
    asked = str((model_args or {}).get(ARGUMENT, AUTO))
    if asked not in (AUTO, *KINDS):
        raise InputError(f"{ARGUMENT}={asked}: unknown; choose {', '.join((AUTO, *sorted(KINDS)))}")
    return asked


def choose_attention(
    asked: str, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, *, backward: bool = True
) -> tuple[str, str]:
    """The attention function for trees, and a line on it that may be empty.

    Args:
        asked: `auto`, or one of `KINDS`.
        dtype: that the model computes in.
        backward: whether gradients are wanted.

    Raises:
        InputError: the one that was asked for does not run here or is not right.
    """
    if asked == AUTO and device.type != "cuda":
        return TREES_SDPA, ""
    heads = Heads.of(config) or Heads(8, 8, 64)
    order = _CUDA_ORDER[dtype != torch.float32] if asked == AUTO else (KINDS[asked],)
    failed: list[str] = []
    for attention in order:
        reason = _disproof(attention, heads, dtype, device, backward)
        if reason is None:
            return attention, "; ".join([f"attention over trees: {_NAMES[attention]}", *failed])
        failed.append(f"not {_NAMES[attention]}: {reason}")
    if asked != AUTO:
        raise InputError(f"{ARGUMENT}={asked}: {failed[0].split(': ', 1)[1]}\nleave it at auto")
    return TREES_SDPA, "; ".join(["attention over trees: sdpa, unproved", *failed])


@cache
def _disproof(attention: str, heads: Heads, dtype: torch.dtype, device: torch.device, backward: bool) -> str | None:
    """Why this attention is not to be used, in one line; None where it is right."""
    try:
        off = disagreement(attention, heads, dtype, device, backward=backward)
    except Exception as error:  # compilers raise what they like
        if is_out_of_memory(error):
            raise
        return f"it does not run here ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    return None if off <= _TOLERANCE[dtype] else f"it is off by {off:.2g} of the norm"  # NaN is not below


def disagreement(
    attention: str, heads: Heads, dtype: torch.dtype, device: torch.device, *, backward: bool = True
) -> float:
    """How far an attention is from attention tree by tree in float32: its output, and its gradients where wanted.

    Returns:
        The largest of ||difference|| / ||reference||; NaN where something is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = sum(map(sum, _LAYOUT))

    def drawn(count: int) -> Tensor:
        return torch.randn(1, count, tokens, heads.size, generator=generator).to(device, dtype)

    inputs = [drawn(count) for count in (heads.query, heads.key, heads.key)]
    weights = drawn(heads.query).transpose(1, 2)
    outputs = _passes(attention, inputs, weights, backward)
    expected = _passes(TREES_SDPA, [part.float() for part in inputs], weights.float(), backward)
    norms = [((one.float() - two).norm() / two.norm()).item() for one, two in zip(outputs, expected, strict=True)]
    return float(torch.tensor(norms).max())  # of several with a NaN among them: NaN


def _passes(attention: str, inputs: list[Tensor], weights: Tensor, backward: bool) -> list[Tensor]:
    """Output and gradients of one call  # (1, tokens, heads, size), then as the inputs"""
    query, key, value = parts = [part.detach().clone().requires_grad_(backward) for part in inputs]
    forest = plant(_LAYOUT, attention, query.dtype, query.device)
    with torch.enable_grad() if backward else torch.inference_mode():
        output, _ = _FUNCTIONS[attention](torch.nn.Identity(), query, key, value, None, forest=forest)
        gradients = torch.autograd.grad((output * weights).sum(), parts) if backward else ()
    return [output.detach(), *gradients]
