"""Attention of one new token a row over its cache: the heads that share keys are the queries of one call.

Where heads share their keys, transformers hands torch's kernel a copy of the whole cache for every query head, which
takes ten times as long. On a CPU, where that kernel takes twice as long as two batched matrix products in bfloat16, it
is those two. Everything but a single token goes to transformers' own function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ONE_TOKEN = "neat_one_token"


def use_where_faster(model: PreTrainedModel) -> None:
    """Have a model on a CPU or CUDA that uses torch's kernel use this instead; others stay as they are."""
    if model.device.type in ("cpu", "cuda") and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(ONE_TOKEN)


def one_token_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # (rows, heads, tokens, head size)
    key: torch.Tensor,  # (rows, key heads, cached tokens, head size)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # (rows, 1, tokens, cached tokens), True where a token is seen
    scaling: float | None = None,
    position_bias: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Returns (rows, tokens, heads, head size), as transformers expects."""
    if query.shape[2] > 1 or position_bias is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, position_bias=position_bias, **options
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    run = _two_products if query.device.type == "cpu" else _one_call
    return run(query, key, value, attention_mask, scale), None


def _one_call(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    rows, heads, _, size = query.shape
    together = query.reshape(rows, key.shape[1], -1, size)  # (rows, key heads, heads of a group, head size)
    output = scaled_dot_product_attention(together, key, value, mask, scale=scale)
    return output.reshape(rows, 1, heads, -1)


def _two_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    rows, heads, _, size = query.shape
    groups = heads // key.shape[1]
    # Heads of a group are neighbours, and share one product with their keys.
    together = query.reshape(rows * key.shape[1], groups, size)
    scores = torch.bmm(together, key.flatten(0, 1).transpose(1, 2)).mul_(scale)
    if mask is not None:
        scores.view(rows, heads, -1).masked_fill_(~mask[:, 0], float("-inf"))
    output = torch.bmm(torch.softmax(scores, dim=-1), value.flatten(0, 1))  # (rows x key heads, groups, head size)
    return output.view(rows, 1, heads, -1)


AttentionInterface.register(ONE_TOKEN, one_token_attention)
AttentionMaskInterface.register(ONE_TOKEN, sdpa_mask)
