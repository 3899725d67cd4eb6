"""Attention over a packed row of token trees, for an unmodified transformers model.

Registered through `transformers.AttentionInterface`: the model calls one of these functions in every layer and hands
on the `forest` that its caller passed to `forward`. A token sees itself and earlier tokens of its own tree's prefix
and its own branch, nothing else. `TREES_SDPA` runs tree by tree with torch's own kernel (CPU, NPU); `TREES_FLEX` is one
compiled FlexAttention call (CUDA). Neither name has a mask function, so transformers builds no mask of its own.

Training in half precision on a CPU takes blocks instead: several branches in one call, under a mask, with a backward
pass written out. The calls of single branches are too small there to keep two cores busy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, islice
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from neat_data.models.trees import split

TREES_SDPA = "neat_trees_sdpa"
TREES_FLEX = "neat_trees_flex"
# What some models ask of their attention beyond a causal softmax; the functions here do none of it.
_FOREIGN = ("softcap", "s_aux", "sliding_window", "position_bias", "head_mask")
# Scores of one head that are worth keeping whole: beyond, torch's kernel, which never holds them, is the better one.
_SMALL = 512 * 512
# Tokens of one block: more, and it computes too much of what its branches do not see of one another.
BLOCK = 256


class UnsupportedAttention(RuntimeError):
    """The model asks for something that attention over trees does not do, or never hands the forest on."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring parts of a tree whose attention is one call.

    Attributes:
        rows: where they stand in the packed row.
        prefix: where their tree's prefix stands; None where they begin with it.
        mask: additive, over prefix and rows  # (rows, prefix + rows)
    """

    rows: slice
    prefix: slice | None
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Forest:
    """Which token of a packed row sees which, made once a row and used by every layer.

    Attributes:
        lengths: for each tree the length of its prefix, then of its branches.
        causal: additive causal mask over the longest sequence; every prefix and branch uses a corner of it
            # (longest, longest). None on the FlexAttention way.
        block_mask: FlexAttention's form of the whole row; None on the SDPA way.
        blocks: for training in half precision on a CPU, on the SDPA way; else empty.
    """

    lengths: tuple[tuple[int, ...], ...]
    causal: torch.Tensor | None = None
    block_mask: BlockMask | None = None
    blocks: tuple[Block, ...] = ()


def plant(
    lengths: tuple[tuple[int, ...], ...],
    attention: str,
    dtype: torch.dtype,
    device: torch.device,
    *,
    training: bool = False,
) -> Forest:
    """The forest of a row laid out as `lengths` says (see `trees.Row`) for one of the two attention functions."""
    if attention == TREES_FLEX:
        return Forest(lengths, block_mask=_block_mask(lengths, device))
    longest = max(tree[0] + max(tree[1:]) for tree in lengths)
    # Additive and in the model's dtype: a boolean mask is turned into this by every call in every layer.
    causal = torch.full((longest, longest), float("-inf"), dtype=dtype, device=device).triu_(1)
    small = device.type == "cpu" and dtype != torch.float32 and max(map(max, lengths)) <= 2 * BLOCK
    return Forest(lengths, causal=causal, blocks=tuple(_blocks(lengths, dtype)) if training and small else ())


def _blocks(lengths: Sequence[tuple[int, ...]], dtype: torch.dtype) -> Iterator[Block]:
    """Prefix and first branches of a tree as one block, further branches as others."""
    start = 0
    for tree in lengths:
        ends = [0, *accumulate(tree)]
        index = torch.arange(ends[-1])
        seen = sees(*numbers([tree], torch.device("cpu")), index[:, None], index[None, :])
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
        for run in split(tree, 0, BLOCK):
            first, last = ends[run.start], ends[run.stop]
            rows = slice(start + first, start + last)
            if run.start == 0:
                yield Block(rows, None, mask[:last, :last].contiguous())
            else:
                both = torch.cat((mask[first:last, : tree[0]], mask[first:last, first:last]), dim=1)
                yield Block(rows, slice(start, start + tree[0]), both)
        start += ends[-1]


def sees(tree: torch.Tensor, branch: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Whether the token at index `query` sees the one at `key`: earlier, in its tree's prefix or in its own branch.

    `tree` and `branch` number the tokens of the row (branch 0 is the prefix)  # (tokens,)
    """
    own = (branch[key] == 0) | (branch[key] == branch[query])
    return (key <= query) & (tree[key] == tree[query]) & own


def numbers(lengths: Sequence[tuple[int, ...]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The tree and the branch of every token of a row; branch 0 is the prefix  # (tokens,), (tokens,)"""
    sizes = torch.tensor([sum(tree) for tree in lengths])
    parts = torch.tensor([part for tree in lengths for part in tree])
    branches = torch.tensor([branch for tree in lengths for branch in range(len(tree))])
    tree = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    return tree.to(device), torch.repeat_interleave(branches, parts).to(device)


def _block_mask(lengths: Sequence[tuple[int, ...]], device: torch.device) -> BlockMask:
    tree, branch = numbers(lengths, device)

    def visible(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return sees(tree, branch, query, key)

    tokens = len(tree)
    return create_block_mask(visible, None, None, tokens, tokens, device=device)


def tree_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, head size)
    key: torch.Tensor,  # (1, key heads, tokens, head size)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    forest: Forest | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention tree by tree; returns (1, tokens, heads, head size), as transformers expects."""
    _check(forest, options)
    assert forest is not None
    assert forest.causal is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = _alike(query, key, value)
    if forest.blocks and forest.blocks[0].mask.dtype == query.dtype:
        groups = query.shape[1] // key.shape[1]
        whole = (query[0], *(part[0].repeat_interleave(groups, 0) for part in (key, value)))
        return _InBlocks.apply(*whole, forest.blocks, scale).transpose(0, 1)[None], None
    causal = forest.causal.to(query.dtype)
    sizes = [part for tree in forest.lengths for part in tree]
    # torch.split, not slices: the backward pass of a slice fills a full-size tensor with zeros for each part.
    parts = iter(zip(*(whole.split(sizes, dim=2) for whole in (query, key, value)), strict=True))
    outputs = []
    for tree in forest.lengths:
        stem, stem_key, stem_value = next(parts)
        if tree[0]:
            outputs.append(_attend(stem, stem_key, stem_value, causal, scale))
        for branch, own_key, own_value in islice(parts, len(tree) - 1):
            keys, values = torch.cat((stem_key, own_key), dim=2), torch.cat((stem_value, own_value), dim=2)
            outputs.append(_attend(branch, keys, values, causal, scale))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: torch.Tensor, scale: float
) -> torch.Tensor:
    """Causal attention of queries that are the last of the keys  # (1, heads, queries, head size)"""
    queries, keys = query.shape[2], key.shape[2]
    mask = causal[keys - queries : keys, :keys]
    if query.device.type == "cpu" and query.dtype != torch.float32 and queries * keys <= _SMALL:
        return _attend_plainly(query, key, value, mask, scale)
    whole = queries == keys
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, None if whole else mask, is_causal=whole, scale=scale, enable_gqa=grouped
    )


def _attend_plainly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """The same by two matrix products, grouped heads sharing theirs: half the time of torch's kernel in bfloat16."""
    groups = query.shape[1] // key.shape[1]
    together = query.reshape(key.shape[1], -1, query.shape[3])  # heads of a group are neighbours
    scores = torch.baddbmm(mask.repeat(groups, 1), together, key[0].transpose(1, 2), alpha=scale)
    return torch.bmm(torch.softmax(scores, dim=-1), value[0]).view(*query.shape[:3], -1)


class _InBlocks(torch.autograd.Function):
    """Attention block by block  # query, key, value (heads, tokens, head size) -> (heads, tokens, head size)"""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: tuple[Block, ...], scale: float
    ) -> torch.Tensor:
        output = torch.empty_like(query)
        weights = []
        for block in blocks:
            scores = torch.baddbmm(block.mask, query[:, block.rows], _seen(key, block).mT, alpha=scale)
            weights.append(torch.softmax(scores, dim=-1))
            output[:, block.rows] = torch.bmm(weights[-1], _seen(value, block))
        ctx.save_for_backward(query, key, value, *weights)
        ctx.blocks, ctx.scale = blocks, scale
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        d_query, d_key, d_value = (torch.empty_like(whole) for whole in (query, key, value))
        for block, weight in zip(ctx.blocks, weights, strict=True):
            own = gradients[0][:, block.rows]
            d_weight = torch.bmm(own, _seen(value, block).mT)
            d_scores = torch._softmax_backward_data(d_weight, weight, -1, weight.dtype)
            d_query[:, block.rows] = torch.bmm(d_scores, _seen(key, block))
            _give(d_value, block, torch.bmm(weight.mT, own))
            _give(d_key, block, torch.bmm(d_scores.mT, query[:, block.rows]))
        return d_query.mul_(ctx.scale), d_key.mul_(ctx.scale), d_value, None, None


def _seen(whole: torch.Tensor, block: Block) -> torch.Tensor:
    """Keys or values that a block's rows see some of  # (heads, tokens, size) -> (heads, prefix + rows, size)"""
    rows = whole[:, block.rows]
    return rows if block.prefix is None else torch.cat((whole[:, block.prefix], rows), dim=1)


def _give(whole: torch.Tensor, block: Block, gradient: torch.Tensor) -> None:
    """The inverse of `_seen`: a tree's first block writes its prefix's gradient, further ones add to it."""
    if block.prefix is None:
        whole[:, block.rows] = gradient
        return
    depth = block.prefix.stop - block.prefix.start
    whole[:, block.prefix] += gradient[:, :depth]
    whole[:, block.rows] = gradient[:, depth:]


def _alike(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Under autocast a query that went through rotary embeddings is float32 and a value is not."""
    kind = parts[0].device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else parts[0].dtype
    return tuple(part.to(dtype) for part in parts)


def tree_flex(
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, head size)
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    forest: Forest | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """One FlexAttention call over the row; compiled with dynamic shapes, since a new shape costs seconds otherwise."""
    _check(forest, options)
    assert forest is not None
    query, key, value = _alike(query, key, value)
    attend = flex_attention if query.device.type == "cpu" else _compiled_flex()
    grouped = query.shape[1] != key.shape[1]
    output = attend(query, key, value, block_mask=forest.block_mask, scale=scaling, enable_gqa=grouped)
    return output.transpose(1, 2).contiguous(), None


@cache
def _compiled_flex() -> Any:
    return torch.compile(flex_attention, dynamic=True)


def _check(forest: Forest | None, options: dict[str, Any]) -> None:
    if forest is None:
        raise UnsupportedAttention("the model does not hand its keyword arguments on to its attention")
    foreign = [name for name in _FOREIGN if options.get(name) is not None]
    if foreign:
        raise UnsupportedAttention(f"the model's attention asks for {', '.join(foreign)}")


AttentionInterface.register(TREES_SDPA, tree_sdpa)
AttentionInterface.register(TREES_FLEX, tree_flex)
