"""What travels together in one pass under a budget of tokens: trees in a row, or rows of like length in a rectangle.

Pure functions of sizes. Whatever is above the budget by itself travels alone: it is for the caller to refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def split(sizes: Sequence[int], prefix: int, budget: int) -> list[range]:
    """Cuts branches of these sizes into runs whose trees fit the budget; a branch that cannot fit runs alone.

    >>> split([3, 3, 3], prefix=4, budget=10)
    [range(0, 2), range(2, 3)]
    """
    runs, start, used = [], 0, prefix
    for index, size in enumerate(sizes):
        if index > start and used + size > budget:
            runs.append(range(start, index))
            start, used = index, prefix
        used += size
    return [*runs, range(start, len(sizes))]


def pack(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """First-fit decreasing: indices of trees, pack by pack, longest first. One tree above the budget is alone.

    >>> pack([3, 9, 4, 6], budget=10)
    [[1], [3, 2], [0]]
    """
    packs: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        place = next((p for p, free in enumerate(room) if sizes[index] <= free), None)
        if place is None:
            packs.append([index])
            room.append(budget - sizes[index])
        else:
            packs[place].append(index)
            room[place] -= sizes[index]
    return packs


def rectangles(
    sizes: Sequence[int], budget: int, *, rows: Sequence[int] | None = None, order: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Indices of items that are padded to one width, batch by batch, so that rows x width stays within the budget.

    Args:
        sizes: the longest row of each item.
        budget: positions of one pass, padding included.
        rows: how many rows each item has; None: one.
        order: in which items are taken; None: longest first.

    >>> list(rectangles([3, 9, 4], budget=18, rows=[2, 2, 2]))
    [[1], [2, 0]]
    """
    batch: list[int] = []
    height = width = 0
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)) if order is None else order:
        more = 1 if rows is None else rows[index]
        if batch and (height + more) * max(width, sizes[index]) > budget:
            yield batch
            batch, height, width = [], 0, 0
        batch.append(index)
        height, width = height + more, max(width, sizes[index])
    if batch:
        yield batch
