"""FlexAttention over a packed row of trees: its block mask written down from the layout, and the compiled call.

`create_block_mask` would evaluate the rule for every pair of tokens of every row, dense intermediates included; where
parts begin and end says the same for whole blocks. Rows are a multiple of `BLOCK` long: the compiled backward pass
asserts or gives NaN elsewhere (pytorch issues 153799, 186775).
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from neat_data.errors import RunError
from neat_data.models.trees.visibility import Lengths, sees, until

BLOCK = 128
# Some shapes of heads and kinds of pass may share a process; beyond the limit dynamo would run FlexAttention eagerly,
# with all scores in memory and a warning only (vllm issue 27178).
RECOMPILES = 64
# The default tiles of float32 exceed the shared memory of some cards (pytorch issue 133254).
_SMALL_TILES = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_M1": 32, "BLOCK_N1": 32, "BLOCK_M2": 32, "BLOCK_N2": 32}


def block_mask(lengths: Lengths, device: torch.device | str) -> BlockMask:
    """The mask of a row: which blocks of keys each block of queries sees in part, and which as a whole.

    Raises:
        ValueError: the row is no multiple of `BLOCK` long.
    """
    tokens = sum(map(sum, lengths))
    if tokens % BLOCK:
        raise ValueError(f"a row of {tokens} tokens: FlexAttention takes multiples of {BLOCK}")
    some, whole = seen_blocks(lengths)
    partial = _ordered(some & ~whole)
    full = _ordered(whole)
    ends = until(lengths).to(device)

    def visible(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return sees(ends, query, key)

    return BlockMask.from_kv_blocks(*partial, *full, BLOCK_SIZE=BLOCK, mask_mod=visible).to(device)


def full_share(mask: BlockMask) -> float:
    """Of the blocks that are computed, the share that needs no look at single tokens."""
    assert mask.full_kv_num_blocks is not None
    full = int(mask.full_kv_num_blocks.sum())
    return full / (full + int(mask.kv_num_blocks.sum()))


def seen_blocks(lengths: Lengths) -> tuple[np.ndarray, np.ndarray]:
    """Whether any, and whether every, token of a query block sees any (every) one of a key block.

    Parts (prefixes and branches) lie one behind the other, so a block is known by its first and its last part. Of an
    earlier block of keys a block of queries sees something where the keys' last part is a prefix of the tree that the
    queries begin with, or the very part that they begin with, or where its tree's prefix reaches into it. It sees all
    where both lie inside one tree and every key is of the prefix or of the one branch that all the queries are of.

    Returns:
        Two boolean arrays  # (query blocks, key blocks)
    """
    sizes = [size for tree in lengths for size in tree]
    kept = np.flatnonzero(sizes)  # empty prefixes hold no token
    tree = np.repeat(np.arange(len(lengths)), [len(parts) for parts in lengths])[kept]
    prefix = np.concatenate([np.arange(len(parts)) == 0 for parts in lengths])[kept]
    ends = np.fromiter(accumulate(np.asarray(sizes)[kept]), dtype=np.int64)
    starts = np.arange(0, ends[-1], BLOCK)
    first, last = (np.searchsorted(ends, index, side="right") for index in (starts, starts + BLOCK - 1))
    root = np.searchsorted(tree, np.arange(len(lengths)))  # of each tree its first part that holds a token

    queries, keys = np.s_[:, None], np.s_[None, :]
    earlier = starts[queries] > starts[keys]
    tree_of_queries = tree[first]
    # The keys of that tree, all behind `begin`, run to the end of their block.
    begin = np.maximum(first[keys], root[tree_of_queries][queries])
    shared = tree[last][keys] == tree_of_queries[queries]
    some = earlier & shared & (prefix[begin] | (last[keys] == first[queries]))
    one_tree = (tree[first] == tree[last])[queries] & (tree[first][keys] == tree_of_queries[queries]) & shared
    one_branch = (first == last)[queries] & (last[keys] == first[queries])
    own_only = (first[keys] == last[keys]) | (prefix[first][keys] & (last[keys] == first[keys] + 1))
    whole = earlier & one_tree & (prefix[last][keys] | (one_branch & own_only))
    return some | np.eye(len(starts), dtype=bool), whole


def _ordered(dense: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """How many blocks of keys each block of queries has, and their numbers in front  # (1, 1, n), (1, 1, n, n)"""
    counts = dense.sum(axis=1)
    order = np.argsort(~dense, axis=1, kind="stable")
    return torch.from_numpy(counts).int()[None, None], torch.from_numpy(order).int()[None, None]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: BlockMask, scale: float | None
) -> torch.Tensor:
    """FlexAttention, compiled but on a CPU  # (1, heads, tokens, size), (1, key heads, tokens, size) x 2 -> as query

    Raises:
        RunError: it was compiled anew too often.
    """
    grouped = query.shape[1] != key.shape[1]
    if query.device.type == "cpu":
        return flex_attention(query, key, value, block_mask=mask, scale=scale, enable_gqa=grouped)
    options = _SMALL_TILES if query.dtype == torch.float32 else None
    limits = {"recompile_limit": RECOMPILES, "fail_on_recompile_limit_hit": True}
    call = {"block_mask": mask, "scale": scale, "enable_gqa": grouped, "kernel_options": options}
    try:
        with torch._dynamo.config.patch(limits):
            return _compiled()(query, key, value, **call)
    except FailOnRecompileLimitHit as error:
        raise RunError(
            f"FlexAttention was compiled anew more than {RECOMPILES} times; beyond that it would keep all scores in",
            advice="memory. Say {model_args} tree_attention=varlen, or sdpa",
        ) from error


@cache
def _compiled() -> Any:
    # Dynamic shapes: every row has another length, and compiling for each would cost seconds.
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)
