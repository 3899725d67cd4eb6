"""Token trees: the responses of one query share its tokens, and many trees share one row without padding.

`grow` finds the prefix, `lay` writes a pack of trees as one row of token ids with explicit position ids and says where
the scored tokens are. All of it is arithmetic on lists of integers. Which trees travel together, `packing` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Sequences with a common beginning: sequence i is `prefix + branches[i]`. No branch is empty."""

    prefix: Sequence[int]
    branches: tuple[Sequence[int], ...]

    @property
    def tokens(self) -> int:
        """Tokens that run when the prefix is shared."""
        return len(self.prefix) + sum(len(branch) for branch in self.branches)


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A pack of trees as one row: each tree's prefix, then its branches.

    Attributes:
        ids: token ids  # (tokens,)
        positions: position ids; each branch goes on where its prefix ended  # (tokens,)
        lengths: for each tree the length of its prefix, then of its branches
        last: index of every branch's last token, tree by tree  # (branches,)
    """

    ids: list[int]
    positions: list[int]
    lengths: tuple[tuple[int, ...], ...]
    last: list[int]


def grow(sequences: Sequence[Sequence[int]]) -> TokenTree:
    """The tree of some sequences, sharing their longest common prefix.

    Every branch keeps at least its last token, so that there is a place to score even where one sequence is the
    beginning of another, or equal to it, or alone.

    >>> grow([[1, 2, 3], [1, 2, 4, 5]])
    TokenTree(prefix=[1, 2], branches=([3], [4, 5]))
    """
    depth = shared(sequences)
    return TokenTree(sequences[0][:depth], tuple(sequence[depth:] for sequence in sequences))


def shared(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with, the last one of each left out.

    >>> shared([[1, 2, 3], [1, 2]])
    1
    """
    # In dictionary order: what the first and the last of them share, all share.
    first, final = min(map(list, sequences)), max(map(list, sequences))
    limit = min(map(len, sequences)) - 1
    return next((i for i in range(limit) if first[i] != final[i]), limit)


def lay(trees: Sequence[TokenTree]) -> PackedRow:
    """Writes trees one after another into a row."""
    ids: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    for tree in trees:
        depth = len(tree.prefix)
        ids.extend(tree.prefix)
        positions.extend(range(depth))
        for branch in tree.branches:
            ids.extend(branch)
            positions.extend(range(depth, depth + len(branch)))
            last.append(len(ids) - 1)
    lengths = tuple((len(tree.prefix), *map(len, tree.branches)) for tree in trees)
    return PackedRow(ids, positions, lengths, last)
