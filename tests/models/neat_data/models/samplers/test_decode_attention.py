"""Attention of one token against torch's own kernel."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from neat_data.models.samplers import decode_attention
from neat_data.models.samplers.decode_attention import one_token_attention


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("tokens", [1, 3])
def test_it_is_what_torch_computes(
    heads: int, masked: bool, tokens: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda":  # what runs there, run here
        monkeypatch.setattr(decode_attention, "_two_products", decode_attention._one_call)
    torch.manual_seed(0)
    query = torch.randn(3, heads, tokens, 8)
    key, value = (torch.randn(3, 2, 20, 8)[:, :, :9] for _ in range(2))  # a window of a slab
    mask = torch.ones(3, 1, tokens, 9, dtype=torch.bool)
    mask[1, :, :, :4] = False
    module = torch.nn.Module()
    module.num_key_value_groups = heads // 2
    arguments = (module, query, key, value, mask if masked or tokens > 1 else None)
    output, _ = one_token_attention(*arguments, scaling=0.3)
    expected, _ = sdpa_attention_forward(*arguments, scaling=0.3)
    assert output.shape == (3, tokens, heads, 8)
    torch.testing.assert_close(output, expected)
