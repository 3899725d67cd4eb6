"""Norms and gates of a model as liger-kernel's fused Triton kernels, on a card in half precision.

Written out in torch, a norm or a gate is several passes over the activations, each bound by memory; fused it is one
(Hsu et al. 2024, "Liger Kernel", arXiv 2410.10989). Only the modules of this one model are changed: that package also
puts its classes into transformers' modules, where a model on a CPU would meet them, and these are put back.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from neat_data.errors import InputError
from neat_data.models.device import is_out_of_memory
from neat_data.store.documents import Arguments, Settings

ARGUMENT = "fused_kernels"  # as `--model-arg fused_kernels=none`
AUTO, LIGER, NONE = "auto", "liger", "none"
FUSED = "norms and gates fused by liger-kernel"
_TOLERANCE = 0.05  # of the norm of the last hidden states: what half precision rounds over the layers of a model
_PROBE = 32  # tokens


def fuse_kernels(model: PreTrainedModel, model_args: Arguments | None) -> str:
    """Fuse what can be fused in a model that lies on its device, if it computes the same afterwards.

    Args:
        model_args: under `fused_kernels`: `auto`, which fuses where it can; `liger`, which must; or `none`.

    Returns:
        `FUSED`, or a line on why not; empty where nothing was to be done.

    Raises:
        InputError: the value is unknown, or `liger` was asked for and cannot be had.
    """
    asked = str((model_args or {}).get(ARGUMENT, AUTO))
    if asked not in (AUTO, LIGER, NONE):
        raise InputError(f"{ARGUMENT}={asked}: unknown; choose {AUTO}, {LIGER} or {NONE}", field="model_args")
    if asked == NONE:
        return ""
    reason = _hindrance(model)
    if reason is None:
        reason = _fuse(model)
        if reason is None:
            return FUSED
    elif asked == AUTO:
        return ""
    if asked == LIGER:
        raise InputError(f"{ARGUMENT}={LIGER}: {reason}", field="model_args")
    return f"norms and gates not fused: {reason}"


def kernels_setting(line: str) -> Settings:
    """What a run's settings say of the line that `fuse_kernels` gave: nothing where nothing is fused."""
    return {"kernels": LIGER} if line == FUSED else {}


def unfuse_kernels(model: PreTrainedModel) -> None:
    """Take `fuse_kernels` back."""
    for module in _fused(model):
        for name in ("forward", "extra_repr", "_get_name"):
            module.__dict__.pop(name, None)


def _fused(model: PreTrainedModel) -> list[nn.Module]:
    """The modules of a model that run a kernel of that package."""
    return [
        module
        for module in model.modules()
        if getattr(module.__dict__.get("forward"), "__module__", "").startswith("liger_kernel")
    ]


def _hindrance(model: PreTrainedModel) -> str | None:
    """Why it is not even tried."""
    if model.device.type != "cuda" or model.dtype not in (torch.bfloat16, torch.float16):
        return f"it is for CUDA in half precision, this model is on {model.device.type} in {model.dtype}"
    if importlib.util.find_spec("liger_kernel") is None:
        return "liger-kernel is not installed (pip install 'neat-align[liger]')"
    return None


def _fuse(model: PreTrainedModel) -> str | None:
    """Fuse, compare and, where that went wrong, take it back and say why."""
    try:
        before = _states(model)
        with _classes_kept():
            from liger_kernel.transformers import _apply_liger_kernel_to_instance

            # What is left out is patched for all models of a kind at once, or has no use here: logits are never whole.
            _apply_liger_kernel_to_instance(
                model=model, rope=False, cross_entropy=False, fused_linear_cross_entropy=False
            )
        if not _fused(model):
            return f"liger-kernel has none for models of type {model.config.model_type}"
        off = ((_states(model) - before).norm() / before.norm()).item()
    except Exception as error:  # compilers raise what they like
        unfuse_kernels(model)
        if is_out_of_memory(error):
            raise
        return f"they do not run here ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    if off <= _TOLERANCE:  # NaN is not
        return None
    unfuse_kernels(model)
    return f"with them the model is off by {off:.2g} of the norm"


@torch.no_grad()
def _states(model: PreTrainedModel) -> Tensor:
    """The last hidden states of a few tokens, (1, tokens, hidden), in float32."""
    body = getattr(model, model.base_model_prefix, model)
    ids = torch.arange(_PROBE, device=model.device)[None] % body.config.get_text_config().vocab_size
    return body(input_ids=ids, use_cache=False).last_hidden_state.float()


@contextmanager
def _classes_kept() -> Iterator[None]:
    """Whatever is put into transformers' modules that define models inside the block is taken out again."""
    names = [name for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name]
    before = {name: dict(vars(sys.modules[name])) for name in names}
    try:
        yield
    finally:
        for name, content in before.items():
            vars(sys.modules[name]).update(content)
