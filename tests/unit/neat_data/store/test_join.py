"""Joining on whole columns gives what one record at a time gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neat_data.record import Label, Message, Record, Response, from_table, query_id, response_id, to_table
from neat_data.store.join import answers, records_of, with_scores

REWARDS = st.sampled_from([None, -1.0, 0.0, -0.0, 1.0, 2.5])


@st.composite
def datasets(draw: st.DrawFn) -> tuple[list[Record], list[list[Record]]]:
    """Base records and two later rounds that add responses to some of them, in any order."""
    base, rounds = [], [[], []]
    for row in range(draw(st.integers(0, 5))):
        messages = (Message("user", str(row)),)
        query = query_id(messages)
        ids = [response_id(query, f"a{n}") for n in range(draw(st.integers(1, 4)))]
        responses = tuple(Response(i, f"a{n}", draw(REWARDS)) for n, i in enumerate(ids))
        orders = draw(st.lists(st.permutations(ids).flatmap(lambda p: st.sampled_from([p, p[:2], p[:1]])), max_size=3))
        labels = tuple(Label("f", None, "s", n, tuple(order)) for n, order in enumerate(orders))
        base.append(Record(query, messages, responses, labels, draw(st.sampled_from([None, "{}"]))).ranked())
        for number, added in enumerate(rounds, 1):
            new = [f"r{number}{n}" for n in range(draw(st.integers(0, 3)))]
            if new:
                sampled = tuple(Response(response_id(query, t), t, draw(REWARDS), "sampled", round=number) for t in new)
                added.append(Record(query, (), sampled).ranked())
    return base, [draw(st.permutations(added)) for added in rounds]


def plainly(base: list[Record], rounds: list[list[Record]], keep: dict[str, bool], reward: dict[str, float] | None):
    """What `records_of` should give, one record at a time."""
    for record in base:
        more = [r for added in rounds for row in added if row.query_id == record.query_id for r in row.responses]
        responses = [r for r in (*record.responses, *more) if keep[r.response_id]]
        if reward is not None:
            shown = [replace(r, reward=reward[r.response_id]) for r in responses]
            responses = [r for r in shown if not np.isnan(r.reward)]
        ids = {r.response_id for r in responses}
        labels = []
        for label in record.labels:
            order = tuple(i for i in label.order if i in ids)
            if len(order) == len(label.order) or len(order) >= 2:
                labels.append(replace(label, order=order))
        if responses:
            yield replace(record, responses=tuple(responses), labels=tuple(labels)).ranked()


@given(datasets(), st.randoms(use_true_random=False), st.booleans())
def test_a_joined_shard_is_what_joining_record_by_record_gives(made, random, other_ranking: bool):
    base, rounds = made
    table = to_table(base)
    joined_answers = answers(table, [to_table(added) for added in rounds])
    ids = joined_answers.column("response_id").to_pylist()
    keep = np.array([random.random() < 0.8 for _ in ids], dtype=bool)
    reward = None
    if other_ranking:
        reward = np.array([random.choice([np.nan, 0.0, 1.0, 2.0]) for _ in ids], dtype=np.float32)
    by_id = None if reward is None else dict(zip(ids, reward.tolist(), strict=True))
    expected = list(plainly(base, rounds, dict(zip(ids, keep.tolist(), strict=True)), by_id))
    assert from_table(records_of(table, joined_answers, keep, reward=reward)) == expected


@given(datasets())
def test_scores_stand_in_the_order_of_the_responses(made):
    base, rounds = made
    table = to_table(base)
    joined_answers = answers(table, [to_table(added) for added in rounds])
    number = np.arange(len(joined_answers.record), dtype=np.float32)
    of = dict(zip(joined_answers.column("response_id").to_pylist(), number.tolist(), strict=True))
    joined = records_of(
        table, joined_answers, np.ones(len(number), dtype=bool), scores={"own": number, "twice": 2 * number}
    )
    for row in joined.to_pylist():
        expected = [of[response["response_id"]] for response in row["responses"]]
        assert row["scores"] == {"own": expected, "twice": [2 * value for value in expected]}


def test_a_missing_score_is_null():
    record = Record("q", (Message("user", "x"),), (Response("a", "a", 1.0), Response("b", "b", 0.0)))
    table = with_scores(to_table([record]), {"m": np.array([1.5, np.nan], dtype=np.float32)})
    assert table["scores"].to_pylist() == [{"m": [1.5, None]}]


def test_responses_to_queries_of_other_shards_are_passed_over():
    base = to_table([Record("q", (Message("user", "x"),), (Response("a", "a", 1.0),))])
    stray = to_table([Record("elsewhere", (), (Response("b", "b", 9.0, round=1),))])
    joined_answers = answers(base, [stray])
    (record,) = from_table(records_of(base, joined_answers, np.ones(2, dtype=bool)))
    assert [response.text for response in record.responses] == ["a"]
