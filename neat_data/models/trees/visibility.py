"""Which token of a packed row of trees sees which: the one rule that every attention over trees is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Lengths = Sequence[tuple[int, ...]]  # for each tree of a row the length of its prefix, then of its branches


def until(lengths: Lengths) -> torch.Tensor:
    """For each token the index behind the last one that sees it: its tree's end for a prefix, else its branch's end.

    >>> until([(2, 1, 1), (0, 2)]).tolist()
    [4, 4, 3, 4, 6, 6]
    """
    ends, sizes, start = [], [], 0
    for prefix, *branches in lengths:
        stop = start + prefix + sum(branches)
        ends.append(stop)
        start += prefix
        for branch in branches:
            start += branch
            ends.append(start)
        sizes += [prefix, *branches]
    return torch.repeat_interleave(torch.tensor(ends), torch.tensor(sizes))


def sees(until: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Whether the token at index `query` sees the one at `key`: itself or earlier, of its prefix or its own branch."""
    return (key <= query) & (query < until[key])
