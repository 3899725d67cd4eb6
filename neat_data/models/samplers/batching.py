"""Which prompts travel together: batches that are decoded side by side, and groups whose shared beginning runs once.

All of it is arithmetic on lists of integers, and depends on nothing but the prompts given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neat_data.models.sampler import Sampling
from neat_data.models.trees.packing import rectangles
from neat_data.models.trees.tree import shared

# A pass of its own costs about as much as this many tokens in a larger one.
_WORTH_SHARING = 16


def batches(prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], budget: int) -> Iterator[list[int]]:
    """Indices of prompts that are decoded together, longest first; empty prompts are left out.

    Rows of a batch share their sampling, and (longest prompt + new tokens) x rows stays within the budget.
    """
    kept = [index for index, prompt in enumerate(prompts) if prompt]
    for sampling in dict.fromkeys(samplings[index] for index in kept):
        alike = [index for index in kept if samplings[index] == sampling]
        sizes = [len(prompts[index]) + sampling.max_new_tokens for index in alike]
        yield from ([alike[place] for place in batch] for batch in rectangles(sizes, budget))


def groups(prompts: Sequence[Sequence[int]], limit: int) -> list[tuple[list[int], int]]:
    """Partition prompts into groups with the length of the beginning that each group shares.

    A prompt joins its neighbours in dictionary order where that saves tokens, and the group, its beginning once and the
    rest padded, stays within `limit` tokens.

    >>> groups([[*range(20), 1], [7], [*range(20), 2, 3]], limit=100)
    [([0, 2], 20), ([1], 0)]
    """
    batches: list[tuple[list[int], int]] = []
    for row in sorted(range(len(prompts)), key=lambda i: (list(prompts[i]), i)):
        wider = _joined(*batches[-1], row, prompts) if batches else None
        if wider is not None and _tokens(*wider, prompts) <= limit:
            batches[-1] = wider
        else:
            batches.append(([row], 0))
    return batches


def _joined(members: list[int], depth: int, row: int, prompts: Sequence[Sequence[int]]) -> tuple[list[int], int] | None:
    """The group with one more row, or None where it would save less than without."""
    common = shared([prompts[members[0]], prompts[row]])
    if len(members) > 1:
        common = min(common, depth)
    saves = common * len(members) > depth * (len(members) - 1)
    return ([*members, row], common) if saves and common >= _WORTH_SHARING else None


def _tokens(members: list[int], depth: int, prompts: Sequence[Sequence[int]]) -> int:
    """Tokens of a group's two passes."""
    return depth + len(members) * (max(len(prompts[i]) for i in members) - depth)
