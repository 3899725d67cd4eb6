"""Which attention over trees is taken: what proves right, in order of speed, and one line on what did not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, Qwen3Config

from neat_data.errors import InputError
from neat_data.models.trees import attention_choice
from neat_data.models.trees.attention import (
    TREES_FLEX,
    TREES_SDPA,
    TREES_VARLEN,
    plant,
    tree_flex,
    tree_sdpa,
    tree_varlen,
)
from neat_data.models.trees.attention_choice import (
    _TOLERANCE,
    Heads,
    asked_attention,
    choose_attention,
    disagreement,
)

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
CONFIG = LlamaConfig(hidden_size=32, num_attention_heads=4, num_key_value_heads=2)
HEADS = Heads(4, 2, 8)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
OWN = {TREES_SDPA: tree_sdpa, TREES_FLEX: tree_flex, TREES_VARLEN: tree_varlen}
Kernel = Callable[..., Any]


@pytest.fixture(autouse=True)
def unproved() -> Iterator[None]:
    """What was proved of one test's kernels is not known in the next."""
    attention_choice._disproof.cache_clear()
    yield
    attention_choice._disproof.cache_clear()


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`kernels(varlen=function)` puts a function in a kernel's place; the proof on a card is made on the CPU."""

    def put(order: tuple[str, ...] = (TREES_VARLEN, TREES_FLEX, TREES_SDPA), **functions: Kernel) -> None:
        own = {f"neat_trees_{name}": function for name, function in functions.items()}
        monkeypatch.setattr(attention_choice, "_FUNCTIONS", {**OWN, **own})
        monkeypatch.setattr(attention_choice, "_CUDA_ORDER", {True: order, False: order})
        monkeypatch.setattr(attention_choice, "disagreement", on_the_cpu)

    return put


def on_the_cpu(attention: str, heads: Heads, dtype: torch.dtype, device: torch.device, *, backward: bool) -> float:
    assert device == CARD
    return disagreement(attention, heads, dtype, CPU, backward=backward)


class Launch(Exception):
    """What no handler for errors of torch alone would catch."""


def raises(*_: Any, **__: Any) -> Any:
    raise Launch("no kernel image\n  is available for execution on the device " + "x" * 500)


def not_a_number(*inputs: Any, **options: Any) -> Any:
    output, _ = tree_varlen(*inputs, **options)
    return torch.cat([output[:, :-1], output[:, -1:] * torch.nan], dim=1), None


def wrong(*inputs: Any, **options: Any) -> Any:
    output, _ = tree_varlen(*inputs, **options)
    return output * 1.05, None


class _Broken(torch.autograd.Function):
    """Itself forward; a gradient that is no number, or half of it, backward."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0] * ctx.factor, None


def wrong_backward(factor: float) -> Kernel:
    def attend(module: Any, query: torch.Tensor, key: torch.Tensor, *inputs: Any, **options: Any) -> Any:
        return tree_varlen(module, query, _Broken.apply(key, factor), *inputs, **options)

    return attend


@pytest.mark.parametrize("attention", OWN)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_shipped_is_proved_right(attention: str, dtype: torch.dtype) -> None:
    assert disagreement(attention, HEADS, dtype, CPU, backward=attention != TREES_FLEX) <= _TOLERANCE[dtype]


def test_flex_attention_has_no_backward_pass_on_a_cpu_and_may_score_there() -> None:
    assert choose_attention("flex", CONFIG, torch.float32, CPU, backward=False) == (
        TREES_FLEX,
        "attention over trees: flex",
    )
    with pytest.raises(InputError, match=r"tree_attention=flex: it does not run here \(NotImplementedError: .*CPU"):
        choose_attention("flex", CONFIG, torch.float32, CPU)


def test_what_is_wrong_backward_alone_may_score(kernels: Any) -> None:
    kernels(varlen=wrong_backward(0.5))
    assert choose_attention("auto", CONFIG, torch.float32, CARD, backward=False)[0] == TREES_VARLEN


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (raises, "does not run here (Launch: no kernel image is available for execution on the device xxx"),
        (not_a_number, "is off by nan of the norm"),
        (wrong, "is off by 0.05 of the norm"),
        (wrong_backward(0.5), "is off by 0.5 of the norm"),
        (wrong_backward(float("nan")), "is off by nan of the norm"),
    ],
    ids=["raises", "NaN", "wrong", "wrong backward", "NaN backward"],
)
def test_a_kernel_that_fails_is_told_in_one_line_and_the_next_is_taken(
    kernel: Kernel, reason: str, kernels: Any
) -> None:
    kernels(varlen=kernel, flex=tree_sdpa_as_flex)
    chosen, line = choose_attention("auto", CONFIG, torch.float32, CARD)
    assert chosen == TREES_FLEX
    assert line.startswith(f"attention over trees: flex; not varlen: it {reason}")
    assert len(line.splitlines()) == 1
    assert len(line) < 300


def tree_sdpa_as_flex(*inputs: Any, forest: Any, **options: Any) -> Any:
    """A right answer under the name of FlexAttention, which has no backward pass on a CPU."""
    return tree_sdpa(*inputs, forest=plant(forest.lengths, TREES_SDPA, inputs[1].dtype, CPU), **options)


def test_the_first_that_is_right_is_taken_without_a_look_at_the_rest(kernels: Any) -> None:
    kernels(flex=raises)
    assert choose_attention("auto", CONFIG, torch.float32, CARD) == (TREES_VARLEN, "attention over trees: varlen")


def test_where_none_is_right_every_reason_is_told(kernels: Any) -> None:
    kernels(varlen=raises, flex=lambda *inputs, **options: (tree_sdpa_as_flex(*inputs, **options)[0] * 1.05, None))
    chosen, line = choose_attention("auto", CONFIG, torch.float32, CARD)
    assert chosen == TREES_SDPA
    assert re.search("sdpa; not varlen: it does not run.*; not flex: it is off by", line)


@pytest.mark.parametrize("kernel", [raises, wrong, not_a_number])
def test_asked_for_by_name_it_is_refused_with_the_reason(kernel: Kernel, kernels: Any) -> None:
    kernels(varlen=kernel)
    with pytest.raises(InputError, match=r"^tree_attention=varlen: it (does not run|is off).*\nleave it at auto$"):
        choose_attention("varlen", CONFIG, torch.float32, CARD)


@pytest.mark.parametrize("asked", ["auto", "varlen"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), MemoryError(), RuntimeError("out of memory")])
def test_running_out_of_memory_is_no_reason_against_a_kernel(asked: str, error: Exception, kernels: Any) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise error

    kernels(varlen=full)
    with pytest.raises(type(error)):
        choose_attention(asked, CONFIG, torch.float32, CARD)


def test_a_proof_is_made_once_for_each_shape_dtype_and_device(kernels: Any) -> None:
    calls = []

    def counted(*inputs: Any, **options: Any) -> Any:
        calls.append(1)
        return tree_varlen(*inputs, **options)

    kernels(varlen=counted)
    for dtype in (torch.float32, torch.float32, torch.bfloat16):
        choose_attention("auto", CONFIG, dtype, CARD)
    assert len(calls) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cpu_takes_sdpa_without_a_proof(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_choice, "_disproof", raises)
    assert choose_attention("auto", CONFIG, dtype, CPU) == (TREES_SDPA, "")


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (CONFIG, HEADS),
        (GPT2Config(n_embd=64, n_head=8), Heads(8, 8, 8)),
        (Qwen3Config(hidden_size=64, num_attention_heads=4, num_key_value_heads=1, head_dim=32), Heads(4, 1, 32)),
    ],
)
def test_a_proof_is_made_with_the_models_own_heads(config: Any, heads: Heads) -> None:
    assert Heads.of(config) == heads


def test_what_was_asked_for_is_known_or_refused() -> None:
    assert asked_attention(None) == asked_attention({}) == asked_attention({"attn_implementation": "eager"}) == "auto"
    assert asked_attention({"tree_attention": "flex"}) == "flex"
    with pytest.raises(InputError, match="tree_attention=flash: unknown; choose auto, flex, sdpa, varlen"):
        asked_attention({"tree_attention": "flash"})
