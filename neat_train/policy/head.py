"""Log-probabilities of target tokens from hidden states, a few hundred tokens at a time.

Logits of all tokens never exist at once. A frozen linear head, which is what LoRA leaves, computes the gradient of each
log-probability with respect to its hidden state in the forward pass, while the logits are there: the backward pass is
one multiplication, where recomputing the logits would be a third matrix product. Any other head (trained, with an
adapter of its own, quantised) runs as the module it is, its logits computed again in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig

CPU_CHUNK = 256  # tokens whose logits exist at once: what a CPU's caches like
ACCELERATOR_CHUNK = 1_024


@dataclass(frozen=True, slots=True)
class Logits:
    """What a model makes of its head's output: cap * tanh(scale * output / cap).

    Attributes:
        scale: 1 for most models.
        cap: `final_logit_softcapping`; None: no cap.
    """

    scale: float = 1.0
    cap: float | None = None

    def of(self, output: Tensor) -> Tensor:
        """Logits in float32  # (n, vocabulary)"""
        output = output.float() if self.scale == 1.0 else output.float() * self.scale
        return output if self.cap is None else self.cap * torch.tanh(output / self.cap)

    def through(self, gradient: Tensor, logits: Tensor | None) -> Tensor:
        """The gradient with respect to the head's output, written over the one with respect to the logits."""
        if self.cap is not None:
            assert logits is not None
            gradient.mul_(1 - (logits / self.cap) ** 2)
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


def logits_of(config: PreTrainedConfig) -> Logits:
    """What the configuration says; the names are those of Cohere, Falcon-H1, Granite, MiniCPM and Gemma."""
    config = config.get_text_config()
    scales = [getattr(config, name, None) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")]
    scale = next((scale for scale in scales if scale is not None), None)
    divisor = getattr(config, "logits_scaling", None)
    if scale is None and divisor is not None:
        scale = divisor if config.model_type == "hyperclovax" else 1 / divisor
    return Logits(1.0 if scale is None else scale, getattr(config, "final_logit_softcapping", None))


def log_probabilities(hidden: Tensor, head: nn.Module, targets: Tensor, logits: Logits) -> Tensor:
    """log softmax of `logits.of(head(hidden))` at the targets.

    Args:
        hidden: (n, size)
        targets: (n,)

    Returns:
        (n,) float32
    """
    chunk = CPU_CHUNK if hidden.device.type == "cpu" else ACCELERATOR_CHUNK
    if type(head) is nn.Linear and not head.weight.requires_grad and not isinstance(head.weight, DTensor):
        dtype = _compute_dtype(hidden)
        bias = None if head.bias is None else head.bias.to(dtype)
        return _Frozen.apply(hidden.to(dtype), head.weight.to(dtype), bias, targets, logits, chunk)
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([checkpoint(_chunk, part, head, own, logits, use_reentrant=False) for part, own in parts])


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _chunk(hidden: Tensor, head: nn.Module, targets: Tensor, logits: Logits) -> Tensor:
    logps = torch.log_softmax(logits.of(head(hidden)), dim=-1)
    return logps.gather(1, targets[:, None])[:, 0]


class _Frozen(torch.autograd.Function):
    """Log-probabilities under a linear head that is not trained, as `log_probabilities`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits, chunk: int
    ) -> Tensor:
        result = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None  # of each log-probability
        # One for all chunks: fresh memory of this size costs as much as the arithmetic.
        room = torch.empty(min(chunk, len(hidden)), len(weight), dtype=torch.float32, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), chunk):
                part = slice(start, start + chunk)
                own = targets[part, None]
                scores = logits.of(nn.functional.linear(hidden[part], weight, bias))
                logps = torch.log_softmax(scores, dim=-1, out=room[: len(own)])
                result[part] = logps.gather(1, own)[:, 0]
                if slope is not None:
                    # d log p_target / d logits = one-hot - p; the sign is left to the backward pass
                    gradient = logps.exp_().scatter_add_(1, own, torch.full_like(own, -1, dtype=logps.dtype))
                    slope[part] = logits.through(gradient, scores).to(weight.dtype) @ weight
        if slope is not None:
            ctx.save_for_backward(slope)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * -gradients[0][:, None].to(slope.dtype), None, None, None, None, None
