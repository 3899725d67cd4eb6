"""Attention over a packed row of token trees, for an unmodified transformers model.

Registered through `transformers.AttentionInterface`: the model calls one of these functions in every layer and hands
on the `forest` that its caller passed to `forward`. A token sees itself and earlier tokens of its own tree's prefix
and its own branch, nothing else. `TREES_SDPA` runs tree by tree with torch's own kernel (any device; CPU and NPU take
it), `TREES_FLEX` is one compiled FlexAttention call, `TREES_VARLEN` one call over sequences of unequal length (both for
CUDA; `attention_choice` says which runs). No name has a mask function, so transformers builds no mask of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from neat_data.models.trees import attention_blocks, attention_flex, attention_varlen
from neat_data.models.trees.attention_blocks import Block
from neat_data.models.trees.attention_varlen import Sequences

TREES_SDPA = "neat_trees_sdpa"
TREES_FLEX = "neat_trees_flex"
TREES_VARLEN = "neat_trees_varlen"
KINDS = {"sdpa": TREES_SDPA, "flex": TREES_FLEX, "varlen": TREES_VARLEN}  # as users name them
# What some models ask of their attention beyond a causal softmax; the functions here do none of it.
_FOREIGN = ("softcap", "s_aux", "sliding_window", "position_bias", "head_mask")
# Scores of one head that are worth keeping whole: beyond, torch's kernel, which never holds them, is the better one.
_SMALL = 512 * 512


# Numbers from one row of a mask to the next: kernels for cards load 16 bytes at a time.
_ALIGNED = 16
# cuDNN's kernel, which torch would take on Hopper where there is a mask, fails there on masks of odd sizes with
# "misaligned address", after which the process can use the card no more (seen with torch 2.11 on an H200).
_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class UnsupportedAttention(RuntimeError):
    """The model asks for something that attention over trees does not do, or never hands the forest on."""


@dataclass(frozen=True, slots=True)
class Forest:
    """Which token of a packed row sees which, made once a row and used by every layer; one of the last four is there.

    Attributes:
        lengths: for each tree the length of its prefix, then of its branches.
        causal: additive causal mask over the longest sequence; every prefix and branch uses a corner of it
            # (longest, longest), for `TREES_SDPA`.
        blocks: for `TREES_SDPA` where blocks pay.
        block_mask: for `TREES_FLEX`.
        parts: for `TREES_VARLEN`.
    """

    lengths: tuple[tuple[int, ...], ...]
    causal: torch.Tensor | None = None
    blocks: tuple[Block, ...] = ()
    block_mask: BlockMask | None = None
    parts: Sequences | None = None


def laid_out(
    ids: torch.Tensor, positions: torch.Tensor, lengths: tuple[tuple[int, ...], ...], attention: str
) -> tuple[torch.Tensor, torch.Tensor, tuple[tuple[int, ...], ...]]:
    """A row as an attention function takes it: for FlexAttention to whole blocks, the padding a tree of its own.

    Args:
        ids: (1, tokens) int64, as `positions`
        lengths: see `tree.Row`.
    """
    missing = -ids.shape[1] % attention_flex.BLOCK if attention == TREES_FLEX else 0
    if not missing:
        return ids, positions, lengths
    padding = torch.arange(missing, device=ids.device)[None]
    ids = torch.cat((ids, torch.zeros_like(padding)), dim=1)
    return ids, torch.cat((positions, padding), dim=1), (*lengths, (0, missing))


def plant(lengths: tuple[tuple[int, ...], ...], attention: str, dtype: torch.dtype, device: torch.device) -> Forest:
    """The forest of a row laid out as `lengths` says (see `laid_out`) for one of the attention functions."""
    if attention == TREES_FLEX:
        return Forest(lengths, block_mask=attention_flex.block_mask(lengths, device))
    if attention == TREES_VARLEN:
        return Forest(lengths, parts=attention_varlen.parts_of(lengths, device))
    if attention_blocks.pays(lengths, dtype, device):
        return Forest(lengths, blocks=tuple(attention_blocks.blocks_of(lengths, dtype)))
    longest = max(tree[0] + max(tree[1:]) for tree in lengths)
    longest += -longest % _ALIGNED
    # Additive and in the model's dtype: a boolean mask is turned into this by every call in every layer.
    causal = torch.full((longest, longest), float("-inf"), dtype=dtype, device=device).triu_(1)
    return Forest(lengths, causal=causal)


Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Forest, float], torch.Tensor]
Attention = Callable[..., tuple[torch.Tensor, None]]


def _as_transformers_calls_it(attend: Attend) -> Attention:
    """A function of query, key, value, forest and scale in the form that `AttentionInterface` wants."""

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,  # (1, heads, tokens, head size)
        key: torch.Tensor,  # (1, key heads, tokens, head size)
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        forest: Forest | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        forest = _checked(forest, options)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        query, key, value = _alike(query, key, value)
        return attend(query, key, value, forest, scale), None  # (1, tokens, heads, head size)

    attention.__name__, attention.__doc__ = attend.__name__, attend.__doc__
    return attention


@_as_transformers_calls_it
def tree_sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, forest: Forest, scale: float
) -> torch.Tensor:
    """Attention tree by tree."""
    if forest.blocks:
        return attention_blocks.attend(query[0], key[0], value[0], forest.blocks, scale).transpose(0, 1)[None]
    assert forest.causal is not None
    causal = forest.causal.to(query.dtype)
    sizes = [part for tree in forest.lengths for part in tree]
    # torch.split, not slices: the backward pass of a slice fills a full-size tensor with zeros for each part.
    parts = iter(zip(*(whole.split(sizes, dim=2) for whole in (query, key, value)), strict=True))
    outputs = []
    with sdpa_kernel(_BACKENDS) if query.device.type == "cuda" else nullcontext():
        for tree in forest.lengths:
            stem, stem_key, stem_value = next(parts)
            if tree[0]:
                outputs.append(_attend(stem, stem_key, stem_value, causal, scale))
            for branch, own_key, own_value in islice(parts, len(tree) - 1):
                keys, values = torch.cat((stem_key, own_key), dim=2), torch.cat((stem_value, own_value), dim=2)
                outputs.append(_attend(branch, keys, values, causal, scale))
    return torch.cat(outputs, dim=2).transpose(1, 2)


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


def _alike(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Under autocast a query that went through rotary embeddings is float32 and a value is not."""
    kind = parts[0].device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else parts[0].dtype
    return tuple(part.to(dtype) for part in parts)


@_as_transformers_calls_it
def tree_flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, forest: Forest, scale: float
) -> torch.Tensor:
    """One FlexAttention call over the row."""
    assert forest.block_mask is not None
    return attention_flex.attend(query, key, value, forest.block_mask, scale).transpose(1, 2).contiguous()


@_as_transformers_calls_it
def tree_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, forest: Forest, scale: float
) -> torch.Tensor:
    """One call over the row's parts."""
    assert forest.parts is not None
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    return attention_varlen.attend(query, key, value, forest.parts, scale)[None]


def _checked(forest: Forest | None, options: dict[str, Any]) -> Forest:
    if forest is None:
        raise UnsupportedAttention("the model does not hand its keyword arguments on to its attention")
    foreign = [name for name in _FOREIGN if options.get(name) is not None]
    if foreign:
        raise UnsupportedAttention(f"the model's attention asks for {', '.join(foreign)}")
    return forest


AttentionInterface.register(TREES_SDPA, tree_sdpa)
AttentionInterface.register(TREES_FLEX, tree_flex)
AttentionInterface.register(TREES_VARLEN, tree_varlen)
