"""Parts of a row as sequences of unequal length: their layout, their attention, and what kernels are called with."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neat_data.models.trees import attention_varlen
from neat_data.models.trees.attention import TREES_SDPA, TREES_VARLEN, plant, tree_sdpa, tree_varlen
from neat_data.models.trees.attention_varlen import Sequences, attend, parts_of
from tests.support.layouts import Lengths, layouts, seen_by_rule

LENGTHS: Lengths = ((4, 2, 3), (0, 3, 1), (5, 1), (1, 1, 1, 2), (0, 4))
TOKENS = sum(map(sum, LENGTHS))
MODULE = torch.nn.Identity()


def seen_in(parts: Sequences) -> np.ndarray:
    """Sequence by sequence, the last of its queries seeing the last of its keys  # (tokens, tokens) bool"""
    seen = np.zeros((int(parts.query_starts[-1]),) * 2, dtype=bool)
    queries, keys = parts.query_starts.tolist(), parts.key_starts.tolist()
    for first, last, begin, end in zip(queries, queries[1:], keys, keys[1:], strict=False):
        aligned = np.tril(np.ones((last - first, end - begin), dtype=bool), (end - begin) - (last - first))
        seen[first:last, parts.keys[begin:end]] = aligned
    return seen


@given(layouts())
def test_parts_are_the_rule_token_by_token(lengths: Lengths) -> None:
    parts = parts_of(lengths, "cpu")
    assert np.array_equal(seen_in(parts), seen_by_rule(lengths))
    queries, keys = parts.query_starts.diff(), parts.key_starts.diff()
    assert (parts.most_queries, parts.most_keys) == (queries.max(), keys.max())
    assert queries.tolist() == [size for tree in lengths for size in tree if size]
    assert len(parts.keys) == parts.key_starts[-1]
    assert {parts.query_starts.dtype, parts.key_starts.dtype} == {torch.int32}  # as kernels take them


def passes(attend: Callable[..., Any], attention: str, lengths: Lengths, heads: tuple[int, int], scale: float | None):
    """Output and gradients in float32."""
    generator = torch.Generator().manual_seed(0)
    sizes = (heads[0], heads[1], heads[1])
    tokens = sum(map(sum, lengths))
    parts = [torch.randn(1, count, tokens, 16, generator=generator).requires_grad_() for count in sizes]
    forest = plant(lengths, attention, torch.float32, torch.device("cpu"))
    output, _ = attend(MODULE, *parts, None, scaling=scale, forest=forest)
    weights = torch.randn(output.shape, generator=generator)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), parts)]


@given(layouts(3), st.sampled_from([(4, 4), (4, 2), (4, 1)]), st.sampled_from([None, 0.5]))
def test_varlen_is_attention_tree_by_tree_forward_and_backward(
    lengths: Lengths, heads: tuple[int, int], scale: float | None
) -> None:
    expected = passes(tree_sdpa, TREES_SDPA, lengths, heads, scale)
    outputs = passes(tree_varlen, TREES_VARLEN, lengths, heads, scale)
    for output, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, other, atol=1e-6 * max(1.0, float(other.abs().max())), rtol=0)


def plainly(q: Any, k: Any, v: Any, starts: Any, most: Any, *, causal: bool, scale: float | None, grouped: bool) -> Any:
    """What any of the kernels computes, after a look at what only a real one would stumble over."""
    parts = parts_of(LENGTHS, "cpu")
    assert starts[0].tolist() == parts.query_starts.tolist()
    assert starts[1].tolist() == parts.key_starts.tolist()
    assert most == (parts.most_queries, parts.most_keys)
    assert causal
    assert grouped or q.shape[1] == k.shape[1]
    return attention_varlen._plain(q, k, v, parts, q.shape[-1] ** -0.5 if scale is None else scale)


def of_torch_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    starts, most = (cu_seq_q, cu_seq_k), (max_q, max_k)
    return plainly(query, key, value, starts, most, causal=is_causal, scale=None, grouped=False)


def of_torch_2_11(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    starts, most = (cu_seq_q, cu_seq_k), (max_q, max_k)
    return plainly(query, key, value, starts, most, causal=window_size == (-1, 0), scale=scale, grouped=False)


def of_torch_2_12(
    query,
    key,
    value,
    cu_seq_q,
    cu_seq_k,
    max_q,
    max_k,
    *,
    return_aux=None,
    scale=None,
    window_size=(-1, -1),
    enable_gqa=False,
    seqused_k=None,
    block_table=None,
    num_splits=None,
):
    starts, most = (cu_seq_q, cu_seq_k), (max_q, max_k)
    return plainly(query, key, value, starts, most, causal=window_size == (-1, 0), scale=scale, grouped=enable_gqa)


def drawn(key_heads: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(TOKENS, heads, 16, generator=generator) for heads in (4, key_heads, key_heads)]


def through(kernel: Callable[..., torch.Tensor], key_heads: int, scale: float) -> torch.Tensor:
    """A row's attention with a kernel in place of the plain reference."""
    parts = parts_of(LENGTHS, "cpu")
    query, key, value = drawn(key_heads)
    return kernel(query, key[parts.keys], value[parts.keys], parts, scale)


@pytest.mark.parametrize("release", [of_torch_2_10, of_torch_2_11, of_torch_2_12])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("scale", [0.25, 0.7])
def test_torchs_kernel_is_called_as_each_release_takes_it(
    release: Any, key_heads: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", release)
    output = through(attention_varlen._torch, key_heads, scale)
    expected = attend(*drawn(key_heads), parts_of(LENGTHS, "cpu"), scale)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_the_newest_signature_here_is_that_of_the_torch_that_is_installed() -> None:
    """What the stand-ins above rest on: a release that renames an argument shows here."""
    from torch.nn.attention.varlen import varlen_attn

    assert set(signature(of_torch_2_12).parameters) <= set(signature(varlen_attn).parameters)


FLASH_ATTN = """
def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False,
    block_table=None,
):
    from tests.models.neat_data.models.trees.test_attention_varlen import plainly

    starts, most = (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k)
    return plainly(q, k, v, starts, most, causal=causal, scale=softmax_scale, grouped=True)
"""


@pytest.fixture
def flash_attn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of that name to import, of one function that computes on a CPU."""
    (tmp_path / "flash_attn.py").write_text(FLASH_ATTN)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    attention_varlen._kernel.cache_clear()
    yield
    attention_varlen._kernel.cache_clear()
    sys.modules.pop("flash_attn", None)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_flash_attn_is_taken_where_it_is_installed(flash_attn: None, key_heads: int) -> None:
    assert attention_varlen._kernel() is attention_varlen._flash_attn
    output = through(attention_varlen._flash_attn, key_heads, 0.7)
    expected = attend(*drawn(key_heads), parts_of(LENGTHS, "cpu"), 0.7)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_torchs_kernel_is_taken_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    attention_varlen._kernel.cache_clear()
    assert attention_varlen._kernel() is attention_varlen._torch
    attention_varlen._kernel.cache_clear()


def test_on_an_accelerator_the_kernel_gets_gathered_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def kernel(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, parts: Sequences, scale: float
    ) -> torch.Tensor:
        shapes.append((query.shape[0], key.shape[0], value.shape[0], scale))
        return query

    monkeypatch.setattr(attention_varlen, "_kernel", lambda: kernel)
    parts = parts_of(LENGTHS, "cpu")
    moved = replace(parts, keys=parts.keys.to("meta"))
    query, key, value = (part.to("meta") for part in drawn(2))
    assert attend(query, key, value, moved, 0.3) is query
    assert shapes == [(TOKENS, len(parts.keys), len(parts.keys), 0.3)]
