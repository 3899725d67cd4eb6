"""Attention of one new token a row over its cache, on a CPU: two batched matrix products.

torch's own kernel takes twice as long at this in bfloat16. Where heads share their keys, transformers hands it a copy
of the whole cache for every query head, which takes ten times as long. Everything but a single token goes to
transformers' own function.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ONE_TOKEN = "neat_one_token"


def use_where_faster(model: PreTrainedModel) -> None:
    """Have a model on the CPU that uses torch's kernel use this instead; others stay as they are."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
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
    rows, heads, _, size = query.shape
    groups = heads // key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    # Heads of a group are neighbours, and share one product with their keys.
    together = query.reshape(rows * key.shape[1], groups, size)
    scores = torch.bmm(together, key.flatten(0, 1).transpose(1, 2)).mul_(scale)
    if attention_mask is not None:
        scores.view(rows, heads, -1).masked_fill_(~attention_mask[:, 0], float("-inf"))
    output = torch.bmm(torch.softmax(scores, dim=-1), value.flatten(0, 1))  # (rows x key heads, groups, head size)
    return output.view(rows, 1, heads, -1), None


AttentionInterface.register(ONE_TOKEN, one_token_attention)
AttentionMaskInterface.register(ONE_TOKEN, sdpa_mask)
