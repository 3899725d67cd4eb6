"""What travels together, by hand and by property."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neat_data.models.trees.packing import pack, rectangles, split


@given(st.lists(st.integers(1, 12), max_size=30), st.integers(1, 20))
def test_packs_hold_every_tree_once_and_keep_to_the_budget(sizes: list[int], budget: int) -> None:
    packs = pack(sizes, budget)
    assert sorted(index for one in packs for index in one) == list(range(len(sizes)))
    for one in packs:
        assert sum(sizes[index] for index in one) <= budget or len(one) == 1


def test_packing_is_first_fit_decreasing() -> None:
    assert pack([2, 5, 4, 6, 3], budget=10) == [[3, 2], [1, 4, 0]]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 9), st.integers(1, 25))
def test_a_wide_tree_is_cut_into_runs_that_fit(sizes: list[int], prefix: int, budget: int) -> None:
    runs = split(sizes, prefix, budget)
    assert [index for run in runs for index in run] == list(range(len(sizes)))
    for run in runs:
        assert prefix + sum(sizes[index] for index in run) <= budget or len(run) == 1


def test_rectangles_are_cut_longest_first() -> None:
    assert list(rectangles([2, 5, 4, 6, 3], budget=12)) == [[3, 1], [2, 4, 0]]
    assert list(rectangles([9, 3], budget=4)) == [[0], [1]]  # above the budget: alone
    assert list(rectangles([], budget=4)) == []


def test_an_item_of_several_rows_stays_whole() -> None:
    assert list(rectangles([4, 4, 4], budget=16, rows=[2, 3, 1])) == [[0], [1, 2]]


def test_in_another_order_the_widest_row_so_far_counts() -> None:
    assert list(rectangles([1, 2, 4], budget=8, order=[0, 1, 2])) == [[0, 1], [2]]
    assert list(rectangles([1, 2, 4], budget=8, order=[2, 0, 1])) == [[2, 0], [1]]


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 4)), max_size=30), st.integers(1, 40), st.randoms())
def test_rectangles_hold_every_item_once_and_keep_to_the_budget(items, budget, random) -> None:
    sizes, rows = [size for size, _ in items], [count for _, count in items]
    for order in (None, random.sample(range(len(items)), len(items))):
        made = list(rectangles(sizes, budget, rows=rows, order=order))
        assert sorted(index for batch in made for index in batch) == list(range(len(items)))
        for batch in made:
            area = max(sizes[index] for index in batch) * sum(rows[index] for index in batch)
            assert area <= budget or len(batch) == 1
