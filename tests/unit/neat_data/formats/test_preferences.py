"""Who is preferred to whom: by reward, by people, and never by the place in a list."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.formats.preferences import (
    Skipped,
    best_worst,
    every,
    first_labelled,
    labelled,
    mu_2sigma,
    only,
    random,
)
from neat_data.labels import best
from neat_data.record import Message, Record, Response, query_id, response_id


def texts(pairs):
    return [(pair.chosen.text, pair.rejected.text) for pair in pairs]


def reason(choose, record, min_gap=None):
    with pytest.raises(Skipped) as skipped:
        choose(record, min_gap)
    return skipped.value.reason


def test_best_and_worst_by_reward(record_of):
    record = record_of("q", {"a": 1.0, "b": 3.0, "c": -2.0, "d": None})
    (pair,) = best_worst(record)
    assert (pair.chosen.text, pair.rejected.text, pair.gap) == ("b", "c", 5.0)
    assert texts(best_worst(record, 4.5)) == [("b", "c")]
    assert reason(best_worst, record, 5.0) == "gap_too_small"  # it must be exceeded


def test_every_pair_beyond_a_gap(record_of):
    record = record_of("q", {"a": 0.0, "b": 3.0, "c": 1.0, "d": 1.0})
    assert sorted(texts(every(record))) == [("b", "a"), ("b", "c"), ("b", "d"), ("c", "a"), ("d", "a")]
    assert sorted(texts(every(record, 1.0))) == [("b", "a"), ("b", "c"), ("b", "d")]


def test_people_are_believed_against_the_reward(record_of):
    record = record_of("q", {"a": 0.0, "b": 3.0, "c": None}, [("a", "b"), ("b", "a", "c")])
    assert texts(labelled(record)) == [("a", "b"), ("b", "a"), ("b", "c"), ("a", "c")]
    assert texts(labelled(record, 0.0)) == [("b", "a")]


def test_the_best_and_what_lies_two_deviations_below_the_mean(record_of):
    rewards = {**{f"good {n}": 2.0 for n in range(10)}, "bad": -3.0, "awful": -8.0}
    # mean 0.75, standard deviation 2.98: -5.2 is aimed at
    assert texts(mu_2sigma(record_of("q", rewards)))[0][1] == "bad"
    assert texts(best_worst(record_of("q", rewards)))[0][1] == "awful"
    assert texts(mu_2sigma(record_of("q", {"a": 1.0, "b": 0.0}))) == [("a", "b")]  # never the best itself


def test_a_random_pair_is_any_of_two_rewards_the_higher_one_chosen(record_of):
    drawn = [random(record_of(f"q{n}", {"a": 2.0, "b": 1.0, "c": 1.0, "d": 0.0}))[0] for n in range(200)]
    seen = {(pair.chosen.text, pair.rejected.text) for pair in drawn}
    assert seen == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")}
    assert drawn[7] == random(record_of("q7", {"d": 0.0, "c": 1.0, "b": 1.0, "a": 2.0}))[0]


def test_the_first_label_speaks_for_a_record(record_of):
    record = record_of("q", {"a": 0.0, "b": 3.0, "c": None}, [("a", "b", "c"), ("b", "a")])
    assert texts(first_labelled(record)) == [("a", "c")]
    assert reason(first_labelled, record, 0.0) == "no_reward"
    assert reason(first_labelled, record_of("q", {"a": 0.0, "b": 3.0})) == "no_label"


@pytest.mark.parametrize("choose", [best_worst, every, mu_2sigma, random])
def test_what_gives_no_pair_says_why(record_of, choose):
    assert reason(choose, record_of("q", {"a": 1.0})) == "one_response"
    assert reason(choose, record_of("q", {"a": 1.0, "b": None})) == "no_reward"
    assert reason(choose, record_of("q", {"a": 1.0, "b": 1.0})) == "tie"
    assert reason(choose, record_of("q", {"a": 1.0, "b": 1.5}), 1.0) == "gap_too_small"


def test_labels_that_give_no_pair_say_why(record_of):
    rewards = {"a": 1.0, "b": 1.0}
    assert reason(labelled, record_of("q", rewards)) == "no_label"
    assert reason(labelled, record_of("q", rewards, [("a",)], verdict=True)) == "no_label"
    assert reason(labelled, record_of("q", rewards, [("a", "b")]), 0.0) == "tie"
    assert reason(labelled, record_of("q", {"a": None, "b": 1.0}, [("a", "b")]), 0.0) == "no_reward"
    assert texts(labelled(record_of("q", rewards, [("a", "b")]))) == [("a", "b")]


@given(st.permutations("abcdef"), st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6))
def test_equal_rewards_never_prefer_and_no_order_matters(order, rewards):
    messages = (Message("user", "q"),)
    reward = dict(zip("abcdef", rewards, strict=True))
    record = Record(
        query_id(messages),
        messages,
        tuple(Response(response_id(query_id(messages), text), text, reward[text]) for text in order),
    )
    straight = replace(record, responses=tuple(sorted(record.responses, key=lambda response: response.text)))
    assert best(record.responses) == best(straight.responses)
    for choose in (best_worst, every):
        if len(set(rewards)) == 1:
            assert reason(choose, record) == "tie"
            continue
        pairs = choose(record, None)
        assert all(pair.chosen.reward > pair.rejected.reward for pair in pairs)
        assert sorted(texts(pairs)) == sorted(texts(choose(straight, None)))


def test_polarities_can_be_chosen(record_of):
    record = record_of("q", {"a": 2.0, "b": 1.0, "c": 0.0}, [("a", "b"), ("c", "b", "a")])
    mixed = replace(
        record,
        responses=tuple(
            replace(response, polarity=polarity)
            for response, polarity in zip(record.responses, (None, "negative", "positive"), strict=True)
        ),
    )
    kept = only(mixed, frozenset({"none", "positive"}))
    assert [response.text for response in kept.responses] == ["a", "c"]
    assert texts(labelled(kept)) == [("c", "a")]
    assert only(mixed, frozenset({"none", "positive", "negative"})) is mixed
