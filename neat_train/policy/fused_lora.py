"""A LoRA layer as one function with a backward pass of its own, for half precision on a card.

peft writes W x + s B (A x) as it reads: the product with B, its scaling and the sum are three passes over outputs that
are thousands of numbers wide, and three more on the way back, all bound by memory. Here the product is added into
W x where that lies, and its gradient into that of x: one pass each. Adapters kept in float32 are rounded to the dtype
of the layer's input for the products, as autocast would do; their gradients and updates stay float32.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

_HALF = (torch.bfloat16, torch.float16)


def fuse(model: nn.Module) -> int:
    """Let the LoRA layers of a model run fused wherever that computes the same; returns how many there are.

    A layer runs as peft has it where an adapter is switched off, merged or one of several, has dropout or a variant of
    its own, where the base layer is trained or quantised, under autocast, and in float32.
    """
    layers = [module for module in model.modules() if type(module) is Linear]
    for layer in layers:
        layer.__dict__["forward"] = MethodType(_forward, layer)
    return len(layers)


def unfuse(model: nn.Module) -> None:
    """Take `fuse` back."""
    for module in model.modules():
        if type(module) is Linear:
            module.__dict__.pop("forward", None)


def _forward(layer: Linear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    name = _plain_adapter(layer, x) if not args and not kwargs else None
    if name is None:
        return Linear.forward(layer, x, *args, **kwargs)
    base = layer.get_base_layer()
    down, up = layer.lora_A[name].weight.to(x.dtype), layer.lora_B[name].weight.to(x.dtype)
    return AddLowRank.apply(x, base.weight, base.bias, down, up, layer.scaling[name])


def _plain_adapter(layer: Linear, x: Tensor) -> str | None:
    """The name of the one adapter that is added and nothing else; None where peft has more to do."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    base = layer.get_base_layer()
    if layer.disable_adapters or layer.merged or len(active) != 1 or active[0] in layer.lora_variant:
        return None
    if x.dtype not in _HALF or torch.is_autocast_enabled(x.device.type) or type(base) is not nn.Linear:
        return None
    if base.weight.dtype != x.dtype or base.weight.requires_grad or layer.lora_bias.get(active[0]):
        return None
    dropout = layer.lora_dropout[active[0]]
    drops = isinstance(dropout, nn.Dropout) and dropout.p > 0
    return None if layer.training and drops else active[0]


class AddLowRank(torch.autograd.Function):
    """x W^T + bias + scale (x down^T) up^T, W and bias frozen.

    # x (..., in), W (out, in), bias (out,) or None, down (rank, in), up (out, rank) -> (..., out)
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        rows = x.flatten(0, -2)
        inner = rows @ down.mT  # (tokens, rank)
        output = nn.functional.linear(rows, weight, bias).addmm_(inner, up.mT, alpha=scale)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale = scale
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, inner = ctx.saved_tensors
        rows, own = x.flatten(0, -2), gradients[0].flatten(0, -2)
        d_inner = (own @ up).mul_(ctx.scale)  # (tokens, rank)
        d_up = (own.mT @ inner).mul_(ctx.scale)
        d_down = d_inner.mT @ rows
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = torch.mm(own, weight).addmm_(d_inner, down).view_as(x)
        return d_x, None, None, d_down, d_up, None
