"""Whom people chose: each odd case decided once, and the callers that read records in columns keep to it."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.expressions import pair_gap
from neat_data.labels import chosen, chosen_or_best, firsts, labels_over, orders, pair, rejected, verdicts
from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table

REWARDS = {"a": 0.0, "b": 3.0, "c": 1.0}


def record_saying(*statements: str, rewards: dict[str, float | None] | None = None) -> Record:
    """A label a statement: `ab` prefers a to b, `+a` accepts and `-a` refuses a, `a` only names it, `` says nothing."""
    messages = (Message("user", "q"),)
    ids = {text: response_id(query_id(messages), text) for text in rewards or REWARDS}
    labels = tuple(
        Label(
            "a.jsonl",
            None,
            None,
            row,
            tuple(ids[text] for text in said.lstrip("+-")),
            {"+": True, "-": False}.get(said[:1]),
        )
        for row, said in enumerate(statements)
    )
    responses = tuple(Response(ids[text], text, reward) for text, reward in (rewards or REWARDS).items())
    return Record(query_id(messages), messages, responses, labels).ranked()


def text(response: Response | None) -> str | None:
    return None if response is None else response.text


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], (None, None, "b")),  # nobody said anything: the highest reward stands in
        (["ab"], ("a", "b", "a")),  # people are believed against the reward
        (["cab"], ("c", "b", "c")),  # of a ranking, the first and the last
        (["+c"], ("c", None, "c")),
        (["-b"], (None, "b", None)),  # what people refused is not chosen, though its reward is the highest
        (["-b", "+c"], ("c", "b", "c")),  # verdicts on two responses of a query make two sides
        ([""], (None, None, "b")),  # a row whose scores tied
        (["a"], (None, None, "b")),  # a row that names a response without a verdict
        (["", "ab"], ("a", "b", "a")),  # the first that says something speaks
        (["ab", "ba"], ("a", "b", "a")),  # several that disagree: the earliest
        (["ab", "ca"], ("a", "b", "a")),
        (["+a", "-a"], ("a", None, "a")),
        (["-a", "+a"], (None, "a", None)),
        (["-a", "ab"], (None, "a", None)),  # a is rejected already, so that this row is not heard
        (["-a", "ab", "cb"], ("c", "a", "c")),
        (["+a", "bc"], ("a", "c", "a")),
        (["+a", "ba"], ("a", None, "a")),
    ],
)
def test_each_odd_case_is_decided(statements, expected):
    record = record_saying(*statements)
    assert (text(chosen(record)), text(rejected(record)), text(chosen_or_best(record))) == expected


@pytest.mark.parametrize(
    ("statements", "expected"),
    [([], None), (["+a"], None), (["a", ""], None), (["-b", "cab"], ("c", "b")), (["ab", "ba"], ("a", "b"))],
)
def test_a_pair_is_of_one_row_that_compares(statements, expected):
    made = pair(record_saying(*statements))
    assert (None if made is None else tuple(map(text, made))) == expected


def test_every_statement_is_told_in_its_order():
    record = record_saying("ab", "+c", "", "-c", "+c", "ab", "b", "cba")
    assert ["".join(response.text for response in order) for order in orders(record)] == ["ab", "ab", "cba"]
    assert [(response.text, good) for response, good in verdicts(record)] == [("c", True), ("c", False)]
    assert [response.text for response in firsts(record)] == ["a", "c"]


def test_a_label_speaks_of_the_responses_that_are_left():
    record = record_saying("cab", "bc", "-b", "+b")
    left = replace(record, responses=tuple(response for response in record.responses if response.text != "b"))
    assert tuple(map(text, pair(left) or ())) == ("c", "a")
    assert (text(chosen(left)), text(rejected(left)), verdicts(left)) == ("c", "a", [])
    ids = {response.response_id for response in left.responses}
    assert [len(label.order) for label in labels_over(record.labels, ids)] == [2]
    assert labels_over(record.labels, {response.response_id for response in record.responses}) == record.labels


def test_the_highest_reward_stands_in_by_id_and_only_where_there_is_one():
    tied = record_saying(rewards={"a": 2.0, "b": 2.0, "c": None})
    assert chosen_or_best(tied) == min(tied.responses[:2], key=lambda response: response.response_id)
    assert chosen_or_best(replace(tied, responses=tied.responses[1::-1])) == chosen_or_best(tied)
    assert chosen_or_best(record_saying(rewards={"a": None})) is None


def test_an_empty_text_counts_as_any_other():
    empty = record_saying(rewards={"": 1.0, "b": 0.0})
    assert text(chosen_or_best(empty)) == ""


STATEMENTS = st.lists(st.sampled_from(["", "a", "+a", "-b", "ab", "ba", "cab", "bc", "+c"]), max_size=4)


@given(st.lists(STATEMENTS, min_size=1, max_size=4))
def test_the_gap_over_columns_is_that_of_the_pair(said):
    records = [record_saying(*statements) for statements in said]
    pairs = [pair(record) for record in records]
    gaps = [None if responses is None else responses[0].reward - responses[1].reward for responses in pairs]
    frame = pl.from_arrow(to_table(records))
    assert isinstance(frame, pl.DataFrame)
    assert pair_gap(frame).to_list() == gaps


@given(STATEMENTS)
def test_nobody_is_both_chosen_and_rejected(said):
    record = record_saying(*said)
    first, last = chosen(record), rejected(record)
    assert first is None or first != last
    assert first is None or first in firsts(record)
