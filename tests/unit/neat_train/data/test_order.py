"""The order of records is a function of seed and epoch, whatever the ranks."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from neat_train.data.order import step_ids, steps_an_epoch

IDS = tuple(f"{number:032x}" for number in range(10))


def epoch(number: int, *, per_step: int, seed: int = 0, ids=IDS) -> list[str]:
    steps = steps_an_epoch(len(ids), per_step)
    return [query for step in range(steps) for query in step_ids(ids, number * steps + step, per_step, seed)]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3), st.integers(0, 5))
def test_every_epoch_takes_every_record_once(records, per_step, number, seed):
    ids = [f"query {n}" for n in range(records)]
    assert Counter(epoch(number, per_step=per_step, seed=seed, ids=ids)) == Counter(ids)


def test_the_order_is_that_of_seed_and_epoch_alone():
    assert epoch(1, per_step=3) == epoch(1, per_step=4) == epoch(1, per_step=10)
    assert epoch(1, per_step=3, ids=IDS[::-1]) == epoch(1, per_step=3)
    assert len({tuple(epoch(number, per_step=3, seed=seed)) for number in range(3) for seed in range(3)}) == 9


def test_it_stays_what_it_was():
    assert [int(query, 16) for query in step_ids(IDS, 0, 4, seed=0)] == [6, 8, 5, 7]


def test_the_last_step_of_an_epoch_has_what_is_left():
    assert [len(step_ids(IDS, step, 4, seed=0)) for step in range(4)] == [4, 4, 2, 4]
