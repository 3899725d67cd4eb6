"""Which rows a baseline's step runs, on which rank, and with which weight."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from neat_train.baselines.steps import BaselineSteps, Micro
from neat_train.data.order import step_ids
from neat_train.distributed import Ranks


def steps_of(lengths: list[int], records_per_step: int = 4, budget: int = 40, sequences: int = 2) -> BaselineSteps:
    ids = [f"q{row}" for row in range(len(lengths))]
    return BaselineSteps(
        ids=tuple(ids),
        lengths=lengths,
        learned=[length - 1 for length in lengths],
        sequences=sequences,
        records_per_step=records_per_step,
        seed=7,
        token_budget=budget,
        ranks=Ranks(),
        places={query: row for row, query in enumerate(ids)},
    )


def test_rows_of_like_length_are_packed_under_the_budget():
    steps = steps_of([3, 10, 9, 2], budget=40)
    assert steps.micros(0) == [Micro((1, 2), 0.5), Micro((0, 3), 0.5)]  # 2 x 2 x 10 = 40 and 2 x 2 x 3 = 12
    assert steps.amounts(0) == {"records": 4, "responses": 8, "response_tokens": 2 + 9 + 8 + 1, "tokens": 52}
    assert len(steps_of([30, 3], budget=40).micros(0)) == 2, "a row above the budget is alone"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=23), st.integers(1, 9), st.integers(1, 4))
def test_every_rank_runs_as_many_and_together_they_weigh_every_row_alike(lengths, records_per_step, world):
    alone = steps_of(lengths, records_per_step)
    for step in range(2 * alone.an_epoch):
        ids = step_ids(alone.ids, step, records_per_step, 7)
        assert [alone.ids[row] for row in alone.rows(step)] == ids
        ranks = [replace(alone, ranks=Ranks(rank, world)).micros(step) for rank in range(world)]
        assert len({tuple(len(micro.rows) for micro in micros) for micros in ranks}) == 1
        weight = dict.fromkeys(alone.rows(step), 0.0)
        for micros in ranks:
            for micro in micros:
                for row in micro.rows:
                    weight[row] += micro.weight / len(micro.rows) / world  # a mean over rows, then one over ranks
        assert all(abs(value - 1 / len(ids)) < 1e-12 for value in weight.values())
