"""Sums of what a model will need, against the model itself and numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from neat_data.errors import InputError
from neat_data.models.load import load_sampler
from neat_data.models.memory import Need, cache_bytes, check, estimate
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.sampler import SamplerSpec


def test_weights_are_those_of_the_files_in_the_dtype_asked_for(make_policy: Callable[..., Path]) -> None:
    folder = str(make_policy(LlamaConfig, num_key_value_heads=2))
    numbers = sum(tensor.numel() for tensor in load_file(Path(folder) / "model.safetensors").values())
    spec = SamplerSpec(folder, device="cpu", token_budget=100)
    assert estimate(spec).weights == 4 * numbers
    assert estimate(SamplerSpec(folder, device="cpu", dtype="bfloat16")).weights == 2 * numbers
    # keys and values x 2 layers x 2 heads of 8 x 100 tokens x 4 bytes, and the copy of one layer
    assert estimate(spec).cache == 2 * 2 * 2 * 8 * 100 * 4 * 3 // 2


def test_integers_stay_as_they_are(tmp_path: Path, make_classifier: Callable[..., Path], tokenizer: Any) -> None:
    folder = make_classifier(LlamaConfig, tokenizer)
    weights = {"a": torch.zeros(10, dtype=torch.int8), "b": torch.zeros(10, dtype=torch.bfloat16)}
    save_file(weights, folder / "model.safetensors")
    assert estimate(RewardModelSpec(str(folder), device="cpu")) == Need(folder.name, 10 + 40)


def test_the_cache_of_a_model_of_eight_billion_parameters() -> None:
    config = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8)
    assert cache_bytes(config, 1, 2) == 131_072


def test_what_runs_elsewhere_needs_nothing() -> None:
    assert estimate(SamplerSpec("llama", base_url="http://127.0.0.1:1/v1")).total == 0
    assert estimate(RewardModelSpec("http://127.0.0.1:1")).total == 0
    assert estimate(RewardModelSpec("mine.py:score")).total == 0


def test_what_does_not_fit_is_refused_with_the_sum() -> None:
    check([Need("small", 1)], "cpu")
    with pytest.raises(InputError) as caught:
        check([Need("policy", 10**15, 2 * 10**15), Need("reward", 10**15)], "cpu")
    said = str(caught.value)
    assert "needs 4000000.0 GB (policy: weights 1000000.0 + cache 2000000.0; reward: weights 1000000.0), " in said
    assert "GB are free on cpu\n" in said
    assert "try dtype bfloat16, a smaller token_budget" in said


def test_a_policy_too_large_is_refused_before_it_is_loaded(make_policy: Callable[..., Path]) -> None:
    spec = SamplerSpec(str(make_policy(LlamaConfig)), device="cpu", token_budget=10**13)
    with pytest.raises(InputError, match="are free on cpu"):
        load_sampler(spec)
