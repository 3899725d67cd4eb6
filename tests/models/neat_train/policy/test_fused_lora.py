"""Fused LoRA layers against peft's own, and that they step aside where peft has more to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from neat_train.policy.fused_lora import AddLowRank, fuse, unfuse

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def adapted(dtype: torch.dtype, adapter: torch.dtype, **options: Any) -> Any:
    torch.manual_seed(0)
    body = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=2, attention_bias=True, **SIZES)).to(dtype)
    lora = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    model = get_peft_model(body, lora, autocast_adapter_dtype=False)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn_like(weight, dtype=adapter) * 0.1
    return model.train()


def gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = model(torch.arange(24).view(2, 12)).logits.float()
    torch.log_softmax(logits, dim=-1)[..., 5].mean().backward()
    return logits.detach(), {name: w.grad.float() for name, w in model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("bias", [True, False])
def test_value_and_gradients_are_those_of_the_formula_in_float64(bias: bool) -> None:
    torch.manual_seed(0)
    sizes = [(2, 5, 6), (7, 6), (7,), (3, 6), (7, 3)]
    x, weight, shift, down, up = (torch.randn(size, dtype=torch.float64) for size in sizes)
    inputs = [part.requires_grad_() for part in (x, down, up)]
    assert torch.autograd.gradcheck(
        lambda x, down, up: AddLowRank.apply(x, weight, shift if bias else None, down, up, 1.5), inputs
    )
    output = AddLowRank.apply(x, weight, shift if bias else None, down, up, 1.5)
    expected = x @ weight.T + (shift if bias else 0) + 1.5 * (x @ down.T) @ up.T
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("adapter", [torch.bfloat16, torch.float32])
def test_a_model_in_half_precision_learns_what_peft_would(adapter: torch.dtype) -> None:
    model = adapted(torch.bfloat16, adapter)
    expected, slopes = gradients(model)
    assert fuse(model) == 14
    calls = []
    apply, AddLowRank.apply = AddLowRank.apply, lambda *args: calls.append(1) or apply(*args)  # type: ignore[method-assign]
    try:
        actual, fused = gradients(model)
    finally:
        del AddLowRank.apply
    assert len(calls) == 14
    torch.testing.assert_close(actual, expected, atol=0.03, rtol=0)
    assert fused.keys() == slopes.keys()
    for name, slope in slopes.items():
        assert (fused[name] - slope).norm() <= 0.06 * slope.norm(), name  # bfloat16 alone is off by 0.03
    unfuse(model)
    assert torch.equal(gradients(model)[0], expected)


def test_peft_does_what_is_more_than_one_plain_adapter() -> None:
    model = adapted(torch.bfloat16, torch.bfloat16)
    fuse(model)
    with model.disable_adapter():
        bare = model(torch.arange(12)[None]).logits
    unfuse(model)
    with model.disable_adapter():
        torch.testing.assert_close(model(torch.arange(12)[None]).logits, bare, atol=0, rtol=0)


@pytest.mark.parametrize("options", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}])
def test_dropout_variants_and_biases_stay_with_peft(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(torch.bfloat16, torch.bfloat16, **options)
    fuse(model)
    monkeypatch.setattr(AddLowRank, "apply", lambda *_: pytest.fail("ran fused"))
    gradients(model)


def test_float32_stays_with_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(torch.float32, torch.float32)
    expected, slopes = gradients(model)
    fuse(model)
    monkeypatch.setattr(AddLowRank, "apply", lambda *_: pytest.fail("ran fused"))
    actual, again = gradients(model)
    assert torch.equal(actual, expected)
    assert all(torch.equal(again[name], slope) for name, slope in slopes.items())
