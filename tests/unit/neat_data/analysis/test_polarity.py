"""Rewards by the polarity of the prompt, compared query by query."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats as scipy_stats

from neat_data.analysis.stats import compute


def _with_polarity(record, polarities):
    responses = tuple(replace(r, polarity=polarities.get(r.text)) for r in record.responses)
    return replace(record, responses=responses)


@pytest.fixture
def grown(record_of, made_dataset):
    """Three queries; the second has two positive responses, the third no negative one."""
    kinds = {"p": "positive", "p2": "positive", "n": "negative"}
    rewards = [
        {"s": 0.0, "p": 1.0, "n": -1.0},
        {"s": 0.5, "p": 2.0, "p2": 1.0, "n": 0.5},
        {"s": 0.0, "p": 9.0},
    ]
    return made_dataset([_with_polarity(record_of(f"q{n}", r, [("s",)]), kinds) for n, r in enumerate(rewards)])


def test_the_difference_is_that_of_the_same_queries(grown):
    polarities = compute(grown, by="polarity").polarities
    by_name = {group.polarity: group for group in polarities.rewards}
    assert (by_name["positive"].responses, by_name["positive"].reward.count) == (4, 3)
    assert by_name["positive"].reward.mean == pytest.approx((1 + 1.5 + 9) / 3)
    assert by_name["negative"].reward.mean == pytest.approx((-1 + 0.5) / 2)
    assert by_name[None].responses == 3
    assert (polarities.difference.count, polarities.difference.mean) == (2, pytest.approx((2.0 + 1.0) / 2))
    low, high = scipy_stats.norm.interval(0.95, loc=1.5, scale=scipy_stats.sem([2.0, 1.0]))
    assert (polarities.difference.low, polarities.difference.high) == (pytest.approx(low), pytest.approx(high))


def test_where_chooses_the_queries(grown):
    polarities = compute(grown, by="polarity", where="n_responses = 4").polarities
    assert [(group.polarity, group.responses) for group in polarities.rewards] == [
        ("positive", 2),
        ("negative", 1),
        (None, 1),
    ]


def test_without_polarities_there_is_no_difference(record_of, made_dataset):
    polarities = compute(made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])]), by="polarity").polarities
    assert [group.polarity for group in polarities.rewards] == [None]
    assert polarities.difference.count == 0
    assert compute(made_dataset([record_of("r", {"a": 1.0})], name="other")).polarities is None
