"""Attention over a packed row of trees as one call over sequences of unequal length, without a mask.

Trees here are stars, so every part (a prefix, or a branch) is a sequence: its queries are its own tokens, its keys are
its tree's prefix and its own tokens, causal and aligned at the end. One call of a kernel for such sequences does all of
them; the keys of prefixes are handed to it once for each branch, which costs little beside what is computed on them.
Queries and outputs stay where they lie. The idea is that of PrefixGrouper (arXiv 2506.05433).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from neat_data.models.trees.visibility import Lengths


@dataclass(frozen=True, slots=True)
class Sequences:
    """A row's parts as sequences, those without a token left out.

    Attributes:
        keys: where in the row each sequence's keys stand, sequence by sequence  # (keys,) int64
        query_starts: where each sequence's queries begin in the row; the last is the row's length  # (parts + 1,) int32
        key_starts: where each sequence's keys begin in `keys`; the last is its length  # (parts + 1,) int32
        most_queries: of one sequence.
        most_keys: of one sequence.
    """

    keys: torch.Tensor
    query_starts: torch.Tensor
    key_starts: torch.Tensor
    most_queries: int
    most_keys: int


def parts_of(lengths: Lengths, device: torch.device | str) -> Sequences:
    """The sequences that a row laid out as `lengths` consists of."""
    sizes = np.concatenate([np.asarray(tree) for tree in lengths])
    ends = np.cumsum(sizes)
    root = np.concatenate([np.arange(len(tree)) == 0 for tree in lengths])
    heads = np.repeat(np.flatnonzero(root), [len(tree) for tree in lengths])  # of each part, its tree's prefix
    # Two ranges a part: its tree's prefix, which for the prefix itself is left out, and its own tokens.
    begins = np.stack([ends[heads] - sizes[heads], ends - sizes], axis=1)
    counts = np.stack([np.where(root, 0, sizes[heads]), sizes], axis=1)
    begins, counts = begins[sizes > 0], counts[sizes > 0]
    keys = np.repeat((begins - _starts(counts.ravel())[:-1].reshape(-1, 2)).ravel(), counts.ravel())
    return Sequences(
        keys=torch.from_numpy(keys + np.arange(len(keys))).to(device),
        query_starts=torch.from_numpy(_starts(counts[:, 1])).int().to(device),
        key_starts=torch.from_numpy(_starts(counts.sum(axis=1))).int().to(device),
        most_queries=int(counts[:, 1].max()),
        most_keys=int(counts.sum(axis=1).max()),
    )


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, parts: Sequences, scale: float) -> torch.Tensor:
    """Attention of every part over its keys.

    Args:
        query: (tokens, heads, size)
        key: (tokens, key heads, size), as `value`
        scale: of the scores.

    Returns:
        (tokens, heads, size)
    """
    key, value = key.index_select(0, parts.keys), value.index_select(0, parts.keys)
    return (_plain if query.device.type == "cpu" else _kernel())(query, key, value, parts, scale)


Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Sequences, float], torch.Tensor]


@cache
def _kernel() -> Kernel:
    return _torch if importlib.util.find_spec("flash_attn") is None else _flash_attn


def _flash_attn(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, parts: Sequences, scale: float) -> torch.Tensor:
    """The package flash-attn: its causal masks are aligned at the end, and heads may share keys."""
    from flash_attn import flash_attn_varlen_func

    starts, most = (parts.query_starts, parts.key_starts), (parts.most_queries, parts.most_keys)
    return flash_attn_varlen_func(q, k, v, *starts, *most, softmax_scale=scale, causal=True)


def _torch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, parts: Sequences, scale: float) -> torch.Tensor:
    """torch's own kernel; what its releases did not take yet is done outside of it."""
    from torch.nn.attention.varlen import varlen_attn

    takes = signature(varlen_attn).parameters
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in takes else {"is_causal": True}
    if "scale" in takes:
        options["scale"] = scale
    else:
        q = q * (scale * q.shape[-1] ** 0.5)
    groups = q.shape[1] // k.shape[1]
    if groups > 1 and "enable_gqa" in takes:
        options["enable_gqa"] = True
    elif groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    starts, most = (parts.query_starts, parts.key_starts), (parts.most_queries, parts.most_keys)
    output = varlen_attn(q, k, v, *starts, *most, **options)
    assert isinstance(output, torch.Tensor)
    return output


def _plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, parts: Sequences, scale: float) -> torch.Tensor:
    """The same sequence by sequence, for a CPU, which has no such kernel."""
    queries, keys = (starts.diff().tolist() for starts in (parts.query_starts, parts.key_starts))
    grouped = q.shape[1] != k.shape[1]
    outputs = []
    for own, own_keys, own_values in zip(q.split(queries), k.split(keys), v.split(keys), strict=True):
        # Aligned at the end: the last query sees the last key.
        mask = torch.ones(len(own), len(own_keys), dtype=torch.bool, device=q.device).tril_(len(own_keys) - len(own))
        query, key, value = (part.transpose(0, 1)[None] for part in (own, own_keys, own_values))
        attended = scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=grouped)
        outputs.append(attended[0].transpose(0, 1))
    return torch.cat(outputs)
