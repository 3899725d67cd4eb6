"""Where a model's norms and gates may be fused, and what is said where not; the kernels themselves need a card."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from neat_data.errors import InputError
from neat_data.models import fused_kernels
from neat_data.models.arguments import for_the_model
from neat_data.models.fused_kernels import FUSED, fuse_kernels, kernels_setting, unfuse_kernels


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape)).eval()


def test_on_a_cpu_nothing_is_fused_unless_it_was_asked_for_and_that_is_refused() -> None:
    assert fuse_kernels(model(), None) == fuse_kernels(model(), {"fused_kernels": "none"}) == ""
    with pytest.raises(InputError, match=r"fused_kernels=liger: .*CUDA in half precision, this model is on cpu"):
        fuse_kernels(model(), {"fused_kernels": "liger"})


def test_an_unknown_value_is_refused() -> None:
    with pytest.raises(InputError, match="fused_kernels=triton: unknown; choose auto, liger or none"):
        fuse_kernels(model(), {"fused_kernels": "triton"})


def test_what_we_take_ourselves_is_no_argument_of_the_model() -> None:
    arguments = {"tree_attention": "flex", "fused_kernels": "none", "attn_implementation": "eager"}
    assert for_the_model(arguments) == {"attn_implementation": "eager"}
    assert len(arguments) == 3


def liger(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """A package of that name whose norm is torch's times `factor`, put in place as the real one does it."""

    def forward(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        return factor * modeling_llama.LlamaRMSNorm.forward(self, x)

    forward.__module__ = "liger_kernel.transformers.rms_norm"

    def apply(model: LlamaForCausalLM, **_: bool) -> None:
        modeling_llama.LlamaMLP = torch.nn.Identity  # type: ignore[misc,assignment]
        for layer in model.model.layers:
            layer.input_layernorm.__dict__["forward"] = types.MethodType(forward, layer.input_layernorm)

    package = types.ModuleType("liger_kernel.transformers")
    package._apply_liger_kernel_to_instance = apply  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", types.ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    monkeypatch.setattr(fused_kernels, "_hindrance", lambda model: None)


def test_what_computes_the_same_stays_and_classes_of_other_models_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    liger(monkeypatch, 1.0)
    before, own = modeling_llama.LlamaMLP, model()
    assert kernels_setting(fuse_kernels(own, None)) == {"kernels": "liger"}
    assert "forward" in own.model.layers[0].input_layernorm.__dict__
    assert modeling_llama.LlamaMLP is before
    unfuse_kernels(own)
    assert "forward" not in own.model.layers[0].input_layernorm.__dict__


def test_what_computes_something_else_is_taken_back_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    liger(monkeypatch, float("nan"))
    own = model()
    line = fuse_kernels(own, None)
    assert line.startswith("norms and gates not fused: with them the model is off by nan")
    assert kernels_setting(line) == {}
    assert "forward" not in own.model.layers[0].input_layernorm.__dict__
    with pytest.raises(InputError, match="fused_kernels=liger: with them the model is off"):
        fuse_kernels(own, {"fused_kernels": "liger"})


def test_a_kind_of_model_that_the_package_does_not_know_is_not_called_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    liger(monkeypatch, 1.0)
    package = sys.modules["liger_kernel.transformers"]
    monkeypatch.setattr(package, "_apply_liger_kernel_to_instance", lambda model, **_: None)
    line = fuse_kernels(model(), None)
    assert line == "norms and gates not fused: liger-kernel has none for models of type llama"
    assert kernels_setting(line) == {}


def test_a_model_whose_probe_fails_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    liger(monkeypatch, 1.0)
    own = model()
    monkeypatch.setattr(own.model, "forward", lambda **_: 1 / 0)
    assert "they do not run here (ZeroDivisionError: division by zero)" in fuse_kernels(own, None)


def test_the_line_of_success_is_the_one_that_settings_look_for() -> None:
    assert kernels_setting(FUSED) == {"kernels": "liger"}
    assert kernels_setting("") == {}
