"""What a configuration alone says against trees, and that the check leaves a model as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
)

from neat_data.models.trees.exactness import configured_against_trees, in_float32, window


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LlamaConfig(), None),
        (Qwen2Config(sliding_window=4096, use_sliding_window=False), None),
        (Qwen2Config(sliding_window=4096, use_sliding_window=True, max_window_layers=0), "sliding_attention"),
        (MistralConfig(sliding_window=4096), "window of 4096"),
        (Gemma2Config(), "sliding_attention"),
        (LlamaConfig(is_causal=False), "not causal"),
        (LlamaConfig(attention_chunk_size=64), "chunks"),
        (T5Config(), "decoder"),
    ],
)
def test_a_configuration_can_rule_trees_out(config: PreTrainedConfig, reason: str | None) -> None:
    reason_given = configured_against_trees(config)
    assert reason_given is None if reason is None else reason in (reason_given or "")


def tiny(**options: Any) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return AutoModelForSequenceClassification.from_config(LlamaConfig(vocab_size=16, num_labels=1, **sizes, **options))


def test_casting_up_and_back_changes_no_bit() -> None:
    model = tiny(dtype=torch.bfloat16)
    before = {name: (value.dtype, value.clone()) for name, value in [*model.named_parameters(), *model.named_buffers()]}
    assert {dtype for dtype, _ in before.values()} == {torch.bfloat16, torch.float32}
    with in_float32(model) as exact:
        assert exact
        assert {value.dtype for value in model.parameters()} == {torch.float32}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        dtype, old = before[name]
        assert value.dtype == dtype
        assert torch.equal(value, old)


def test_a_rope_that_changes_with_length_limits_the_window(tokenizer: Any) -> None:
    long = {"rope_type": "longrope", "original_max_position_embeddings": 64, "rope_theta": 1e4}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    model = tiny(max_position_embeddings=256, rope_parameters={**long, **factors})
    assert window(model, tokenizer) == 64
    assert window(tiny(max_position_embeddings=256), tokenizer) == 256
