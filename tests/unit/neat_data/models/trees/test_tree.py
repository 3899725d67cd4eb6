"""Trees and packing, by hand and by property."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neat_data.models.trees.tree import TokenTree, grow, lay

SEQUENCE = st.lists(st.integers(0, 2), min_size=1, max_size=6)


def test_sequences_share_their_common_prefix() -> None:
    assert grow([[7, 8, 1, 2], [7, 8, 3], [7, 8, 1, 9]]) == TokenTree([7, 8], ([1, 2], [3], [1, 9]))


def test_every_branch_keeps_a_token_to_be_scored_at() -> None:
    assert grow([[1, 2, 3]]) == TokenTree([1, 2], ([3],))
    assert grow([[1, 2], [1, 2]]) == TokenTree([1], ([2], [2]))
    assert grow([[1, 2], [1, 2, 3]]) == TokenTree([1], ([2], [2, 3]))
    assert grow([[1], [2, 3]]) == TokenTree([], ([1], [2, 3]))


@given(st.lists(SEQUENCE, min_size=1, max_size=5))
def test_a_tree_holds_its_sequences_and_shares_all_that_can_be_shared(sequences: list[list[int]]) -> None:
    tree = grow(sequences)
    assert [[*tree.prefix, *branch] for branch in tree.branches] == sequences
    assert all(tree.branches)
    if all(len(branch) > 1 for branch in tree.branches):
        assert len({branch[0] for branch in tree.branches}) > 1


def test_positions_go_on_from_the_prefix_in_every_branch() -> None:
    row = lay([TokenTree([5, 6], ([7], [8, 9])), TokenTree([1], ([2, 3],))])
    assert row.ids == [5, 6, 7, 8, 9, 1, 2, 3]
    assert row.positions == [0, 1, 2, 2, 3, 0, 1, 2]
    assert row.lengths == ((2, 1, 2), (1, 2))
    assert row.last == [2, 4, 7]
