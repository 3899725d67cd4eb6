"""Rows of token trees drawn at random, and what a token sees in them by the number of its tree and branch.

The rule is written here a second time, from numbers that no code of the project keeps, so that a mistake in the one
does not hide in the other.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

Lengths = tuple[tuple[int, ...], ...]
# Around the blocks of kernels, and many parts inside one.
_SIZES = st.one_of(st.integers(1, 5), st.integers(1, 300), st.sampled_from([127, 128, 129, 256]))
_TREES = st.tuples(st.one_of(st.just(0), _SIZES), st.lists(_SIZES, min_size=1, max_size=4))


def layouts(trees: int = 5) -> st.SearchStrategy[Lengths]:
    """Rows of up to so many trees; prefixes may be empty, branches may not."""
    drawn = st.lists(_TREES, min_size=1, max_size=trees)
    return drawn.map(lambda shapes: tuple((prefix, *branches) for prefix, branches in shapes))


def seen_by_rule(lengths: Lengths) -> np.ndarray:
    """Whether a token sees another: an earlier one or itself, of its tree, of the prefix or its own branch.

    Returns:
        (tokens, tokens) bool, queries first
    """
    tree, branch = [], []
    for number, parts in enumerate(lengths):
        for part, size in enumerate(parts):
            tree += [number] * size
            branch += [part] * size  # 0: the prefix
    trees, branches, index = np.array(tree), np.array(branch), np.arange(len(tree))
    same_tree = trees[:, None] == trees[None, :]
    shared = (branches[None, :] == 0) | (branches[:, None] == branches[None, :])
    return same_tree & shared & (index[None, :] <= index[:, None])
