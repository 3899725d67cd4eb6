"""Which queries are sampled together, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neat_train.data.order import step_ids
from neat_train.rounds.schedule import Blocks

IDS = tuple("abcdefghij")


def test_a_block_of_a_step_is_what_the_step_trains_on():
    blocks = Blocks.of(IDS, 4, 0, "step")
    for step in range(7):
        assert list(blocks.starting(step)) == [step]
        assert list(blocks.queries_of(step)) == step_ids(IDS, step, 4, 0)


def test_a_block_of_an_epoch_holds_every_query_once_at_its_first_step():
    blocks = Blocks.of(IDS, 4, 0, "epoch")
    assert [list(blocks.starting(step)) for step in range(7)] == [[0], [], [], [1], [], [], [2]]
    assert sorted(blocks.queries_of(1)) == list(IDS)


def test_between_blocks_training_uses_what_is_there():
    """Ten records in steps of 4, 4 and 2: places 0 to 3, 8 to 11 (two of them empty) and 16 to 19 are sampled."""
    blocks = Blocks.of(IDS, 4, 0, 4, 8)
    assert [list(blocks.starting(step)) for step in range(5)] == [[0], [], [1], [], [2]]
    assert list(blocks.queries_of(0)) == step_ids(IDS, 0, 4, 0)
    assert list(blocks.queries_of(1)) == step_ids(IDS, 2, 4, 0)
    assert list(blocks.queries_of(2)) == step_ids(IDS, 4, 4, 0)


def test_blocks_need_not_begin_with_a_step():
    blocks = Blocks.of(tuple("abcdef"), 2, 0, 3)
    assert [list(blocks.starting(step)) for step in range(3)] == [[0], [1], []]
    order = [query for step in range(3) for query in step_ids(tuple("abcdef"), step, 2, 0)]
    assert [list(blocks.queries_of(number)) for number in range(2)] == [order[:3], order[3:]]


def test_nothing_behind_the_end_of_the_run_is_sampled():
    whole = Blocks.of(IDS, 4, 0, "epoch", steps=2).queries_of(0)
    assert list(whole) == step_ids(IDS, 0, 4, 0) + step_ids(IDS, 1, 4, 0)


@given(
    records=st.integers(1, 12),
    a_step=st.integers(1, 5),
    queries=st.integers(1, 15),
    between=st.integers(0, 6),
    world=st.integers(1, 3),
)
def test_every_rank_has_sampled_what_it_trains_on(records, a_step, queries, between, world):
    """Of what a block covers, each rank samples its own records of each step, and together they sample all."""
    blocks = Blocks.of(IDS[:records] + tuple("klm")[: max(0, records - 10)], a_step, 0, queries, queries + between)
    for step in range(12):
        for number in blocks.starting(step):
            shares = [blocks.queries_of(number, rank, world) for rank in range(world)]
            assert sorted(sum(shares, ())) == sorted(blocks.queries_of(number))
            assert number < blocks.before(step + 1)
            assert number >= blocks.before(step)
        covered = {q for n in range(blocks.before(step + 1)) for q in blocks.queries_of(n)}
        if not between:
            assert set(blocks.trained_at(step)) <= covered
