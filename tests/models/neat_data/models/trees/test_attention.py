"""Attention over packed trees against a dense mask written out by hand, and against itself in other forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from neat_data.models.trees.attention import (
    TREES_FLEX,
    TREES_SDPA,
    TREES_VARLEN,
    Forest,
    UnsupportedAttention,
    laid_out,
    plant,
    tree_flex,
    tree_sdpa,
    tree_varlen,
)
from neat_data.models.trees.packing import split
from neat_data.models.trees.visibility import sees, until
from tests.support.layouts import Lengths, layouts

LENGTHS = ((4, 2, 3), (0, 3, 1), (5, 1), (1, 1, 1, 2))
MODULE = torch.nn.Identity()


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Softmax over the tokens that a token may see, one token at a time: its branch's earlier ones and its prefix."""
    spans, start = [], 0
    for tree in LENGTHS:
        prefix = list(range(start, start + tree[0]))
        place = start + tree[0]
        spans += [prefix[: i + 1] for i in range(tree[0])]
        for branch in tree[1:]:
            spans += [[*prefix, *range(place, place + i + 1)] for i in range(branch)]
            place += branch
        start = place
    rows = []
    groups = query.shape[1] // key.shape[1]
    for token, seen in enumerate(spans):
        k, v = (part[0, :, seen].repeat_interleave(groups, 0) for part in (key, value))
        weights = torch.softmax(k @ query[0, :, token, :, None] * query.shape[-1] ** -0.5, dim=1)
        rows.append((weights * v).sum(1))
    return torch.stack(rows)[None]


def inputs(key_heads: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(1)
    tokens = sum(map(sum, LENGTHS))
    return [torch.randn(1, heads, tokens, 16).to(dtype) for heads in (4, key_heads, key_heads)]


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_sdpa_over_trees_is_the_dense_computation(key_heads: int) -> None:
    q, k, v = inputs(key_heads)
    output, _ = tree_sdpa(MODULE, q, k, v, None, forest=plant(LENGTHS, TREES_SDPA, q.dtype, q.device))
    torch.testing.assert_close(output, dense(q, k, v), atol=1e-6, rtol=0)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_bfloat16_takes_plain_products_and_agrees_within_its_rounding(key_heads: int) -> None:
    q, k, v = inputs(key_heads, torch.bfloat16)
    output, _ = tree_sdpa(MODULE, q, k, v, None, forest=plant(LENGTHS, TREES_SDPA, q.dtype, q.device))
    torch.testing.assert_close(output.float(), dense(q.float(), k.float(), v.float()), atol=0.03, rtol=0)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_flex_attention_is_the_dense_computation(key_heads: int) -> None:
    q, k, v = inputs(key_heads)
    index = torch.arange(q.shape[2])[None]
    ids, _, lengths = laid_out(index, index, LENGTHS, TREES_FLEX)
    assert ids.shape[1] % 128 == 0
    rows = [torch.nn.functional.pad(part, (0, 0, 0, ids.shape[1] - q.shape[2])) for part in (q, k, v)]
    output, _ = tree_flex(MODULE, *rows, None, forest=plant(lengths, TREES_FLEX, q.dtype, q.device))
    torch.testing.assert_close(output[:, : q.shape[2]], dense(q, k, v), atol=1e-6, rtol=0)


@given(layouts())
def test_a_row_is_laid_out_to_whole_blocks_with_a_tree_of_padding_behind_it(lengths: Lengths) -> None:
    tokens = sum(map(sum, lengths))
    ids, positions = torch.arange(1, tokens + 1)[None], torch.arange(tokens, 2 * tokens)[None]
    wider, places, trees = laid_out(ids, positions, lengths, TREES_FLEX)
    missing = wider.shape[1] - tokens
    assert wider.shape == places.shape == (1, sum(map(sum, trees)))
    assert wider.shape[1] % 128 == 0
    assert missing < 128
    assert torch.equal(wider[:, :tokens], ids)  # what is to predict stays where it was
    assert torch.equal(places[:, :tokens], positions)
    assert places[0, tokens:].tolist() == list(range(missing))
    assert trees == (lengths if missing == 0 else (*lengths, (0, missing)))


@pytest.mark.parametrize("attention", [TREES_SDPA, TREES_VARLEN])
def test_other_attention_takes_a_row_as_it_is(attention: str) -> None:
    row = torch.arange(7)[None]
    assert laid_out(row, row, ((4, 2, 1),), attention) == (row, row, ((4, 2, 1),))


def test_a_token_sees_its_prefix_and_its_own_branch_only() -> None:
    ends, index = until([(2, 1, 1), (1, 1)]), torch.arange(6)
    assert sees(ends, index[:, None], index[None, :]).int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_the_scale_that_a_model_asks_for_is_used() -> None:
    q, k, v = inputs(4)
    forest = plant(LENGTHS, TREES_SDPA, q.dtype, q.device)
    output, _ = tree_sdpa(MODULE, q, k, v, None, scaling=0.5, forest=forest)
    torch.testing.assert_close(output, dense(q * 0.5 * 16**0.5, k, v), atol=1e-6, rtol=0)


def test_gradients_flow_through_every_tree() -> None:
    q, k, v = (part.requires_grad_() for part in inputs(2))
    weights = torch.randn(q.shape[2], 1, 1)
    (dense(q, k, v) * weights).sum().backward()
    expected = [part.grad.clone() for part in (q, k, v)]
    for part in (q, k, v):
        part.grad = None
    output, _ = tree_sdpa(MODULE, q, k, v, None, forest=plant(LENGTHS, TREES_SDPA, q.dtype, q.device))
    (output * weights).sum().backward()
    for part, grad in zip((q, k, v), expected, strict=True):
        torch.testing.assert_close(part.grad, grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 4, 6, 256])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_blocks_of_branches_are_the_dense_computation_and_so_are_their_gradients(
    size: int, key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neat_data.models.trees.attention_blocks.BLOCK", max(size, 3))
    monkeypatch.setattr(
        "neat_data.models.trees.attention_blocks.split", lambda sizes, prefix, _: split(sizes, prefix, size)
    )
    parts = [part.requires_grad_() for part in inputs(key_heads, torch.float64)]
    weights = torch.randn(parts[0].shape[2], 1, 1)
    (dense(*parts) * weights).sum().backward()
    expected = [part.grad.clone() for part in parts]
    for part in parts:
        part.grad = None
    forest = plant(LENGTHS, TREES_SDPA, torch.float64, parts[0].device)
    assert len(forest.blocks) == sum(len(split(tree, 0, size)) for tree in LENGTHS)
    output, _ = tree_sdpa(MODULE, *parts, None, forest=forest)
    torch.testing.assert_close(output, dense(*parts), atol=1e-12, rtol=0)
    (output * weights).sum().backward()
    for part, grad in zip(parts, expected, strict=True):
        torch.testing.assert_close(part.grad, grad, atol=1e-12, rtol=0)


def test_blocks_are_for_half_precision_on_short_trees() -> None:
    device = torch.device("cpu")
    assert plant(LENGTHS, TREES_SDPA, torch.bfloat16, device).blocks
    assert not plant(LENGTHS, TREES_SDPA, torch.float32, device).blocks
    assert not plant(((2_000, 3, 4),), TREES_SDPA, torch.bfloat16, device).blocks


@pytest.mark.parametrize("attend", [tree_sdpa, tree_flex, tree_varlen])
def test_what_trees_cannot_do_is_refused_rather_than_left_out(attend) -> None:
    q, k, v = inputs(4)
    with pytest.raises(UnsupportedAttention, match="keyword"):
        attend(MODULE, q, k, v, None)
    with pytest.raises(UnsupportedAttention, match="softcap"):
        attend(MODULE, q, k, v, None, forest=Forest(LENGTHS), softcap=30.0)
