"""Attention over trees in half precision on a CPU: several branches in one call, under a mask.

The calls of single branches are too small there to keep two cores busy, and torch's own kernel is slower than two
matrix products. The backward pass is written out, so that every gradient is written once, where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from neat_data.models.trees.packing import split
from neat_data.models.trees.visibility import Lengths, sees, until

# Tokens of one block: more, and it computes too much of what its branches do not see of one another.
BLOCK = 256


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


def pays(lengths: Lengths, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a row is better done in blocks: in half precision, on a CPU, where no part is long."""
    return device.type == "cpu" and dtype != torch.float32 and max(map(max, lengths)) <= 2 * BLOCK


def blocks_of(lengths: Lengths, dtype: torch.dtype) -> Iterator[Block]:
    """Prefix and first branches of a tree as one block, further branches as others."""
    start = 0
    for tree in lengths:
        ends = [0, *accumulate(tree)]
        index = torch.arange(ends[-1])
        seen = sees(until([tree]), index[:, None], index[None, :])
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


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: tuple[Block, ...], scale: float
) -> torch.Tensor:
    """Attention block by block  # (heads, tokens, size), (key heads, tokens, size) x 2 -> (heads, tokens, size)"""
    groups = query.shape[0] // key.shape[0]
    key, value = (part.repeat_interleave(groups, 0) for part in (key, value))
    return _InBlocks.apply(query, key, value, blocks, scale)


class _InBlocks(torch.autograd.Function):
    """Attention block by block  # query, key, value (heads, tokens, head size) -> (heads, tokens, head size)"""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: tuple[Block, ...], scale: float
    ) -> torch.Tensor:
        output = torch.empty_like(query)
        weights = []
        for block in blocks:
            scores = torch.baddbmm(block.mask.to(query.dtype), query[:, block.rows], _seen(key, block).mT, alpha=scale)
            weight = torch.softmax(scores, dim=-1)
            output[:, block.rows] = torch.bmm(weight, _seen(value, block))
            if any(ctx.needs_input_grad):
                weights.append(weight)
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
