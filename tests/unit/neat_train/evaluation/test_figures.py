"""The figures of an evaluation on tables small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from neat_train.evaluation import figures
from neat_train.evaluation.folder import ANSWERS
from neat_train.evaluation.result import DecodingFigures, Difference, Estimate, NegativeRewardFigures, SourceShare

SCHEMA = {**ANSWERS, "reward/a": pl.Float64, "chosen/a": pl.Float64}


def table(*rows: dict) -> pl.DataFrame:
    """Answers, of which only what matters is given."""
    usual = {"decoding": "sampled", "source": "s", "query": "q", "prompt": "plain", "text": "word", "tokens": 4}
    usual |= {"finished": True, "empty": False, "refusal": False}
    return pl.DataFrame([{**usual, "query_id": str(number), **row} for number, row in enumerate(rows)], schema=SCHEMA)


def test_perplexity_is_that_of_the_corpus_and_not_a_mean_over_records():
    nll, tokens = np.array([1.0, 12.0]), np.array([1, 4])
    perplexity = figures.perplexity(nll, tokens)
    assert perplexity.value == pytest.approx(math.exp(13 / 5))
    assert (perplexity.tokens, perplexity.responses) == (5, 2)
    assert perplexity.per_record.median == pytest.approx(math.exp(2))
    # Of two values, t is 12.706 and the standard error half of their difference, once the ratio is a mean of values:
    # 2.6 + (1 - 2.6) / 2.5 and 2.6 + (12 - 10.4) / 2.5.
    assert perplexity.low == pytest.approx(math.exp(2.6 - 12.706 * 0.64), rel=1e-3)
    assert perplexity.high == pytest.approx(math.exp(2.6 + 12.706 * 0.64), rel=1e-3)
    assert figures.perplexity(np.array([]), np.array([])) is None
    assert figures.perplexity(np.array([2.0]), np.array([2])).low is None


def test_kl_is_a_total_over_all_tokens_and_a_mean_over_responses():
    kl = figures.kl_figures(np.array([3.0, -1.0, 4.0]), np.array([10, 2, 8]))
    assert kl.per_token.value == pytest.approx(6 / 20)
    assert kl.per_response.value == pytest.approx(2)


def test_answers_that_think_are_counted_and_nothing_is_said_where_none_does():
    texts = ["<think>Hm, so.</think> Yes", "<think>Well", "No", "<think>A</think> B"]
    decoding = figures.of_decoding(table(*({"text": text} for text in texts)), [])
    assert (decoding.thoughts.share, decoding.thoughts.unended, decoding.thoughts.characters) == (0.75, 1 / 3, 4.0)
    assert DecodingFigures.from_dict(decoding.to_dict()) == decoding
    assert "thoughts" not in figures.of_decoding(table({"text": "No"}), []).to_dict()


def test_the_interval_of_a_ratio_is_that_of_a_plain_bootstrap():
    draws = np.random.default_rng(3)
    counts = draws.integers(1, 40, 80)
    sums = draws.normal(0.5, 1, 80) * counts
    drawn = draws.integers(0, 80, (20_000, 80))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    ratio = figures.ratio(sums, counts)
    assert (ratio.low, ratio.high) == pytest.approx((low, high), abs=0.02)


@pytest.mark.parametrize("n", [5, 10])
def test_nineteen_in_twenty_intervals_of_a_ratio_of_few_hold_the_truth(n):
    draws = np.random.default_rng(4)
    held = []
    for _ in range(300):
        counts = draws.integers(20, 40, n)
        ratio = figures.ratio(draws.normal(0.5, 0.2, n) * counts, counts)
        held.append(ratio.low <= 0.5 <= ratio.high)
    assert 0.91 <= np.mean(held) <= 0.99


def test_distinct_counts_n_grams_over_all_answers_and_never_across_two():
    distinct = figures.distinct(["the cat sat", "The cat ran", "no"])
    assert distinct == {"1": 5 / 7, "2": 3 / 4, "3": 1.0}
    assert figures.distinct([""]) == {"1": None, "2": None, "3": None}


def test_rewards_stand_beside_the_chosen_ones_of_the_same_queries():
    rows = table(
        {"reward/a": 3.0, "chosen/a": 1.0, "tokens": 9},
        {"reward/a": 1.0, "chosen/a": 2.0, "tokens": 5},
        {"reward/a": 2.0, "chosen/a": 2.0, "tokens": 7, "source": "t"},
        {"reward/a": 6.0, "chosen/a": None, "tokens": 20, "source": "t"},
        {"reward/a": None, "chosen/a": 50.0},
    )
    of_model = figures.of_rewards(rows, "a")
    assert of_model.mean.value == 3.0
    assert (of_model.scored, of_model.unscored) == (4, 1)
    assert of_model.chosen.value == pytest.approx(5 / 3)
    assert of_model.difference.value == pytest.approx(1 / 3)
    assert (of_model.win_rate.wins, of_model.win_rate.losses, of_model.win_rate.ties, of_model.win_rate.value) == (
        1,
        1,
        1,
        0.5,
    )
    assert of_model.length_correlation == pytest.approx(1)
    assert {name: (part.value, part.n) for name, part in of_model.by_source.items()} == {
        "s": (2.0, 2),
        "t": (4.0, 2),
    }


def test_the_difference_to_chosen_is_paired():
    draws = np.random.default_rng(0)
    chosen = draws.normal(0, 100, 200)
    difference = figures.difference(chosen + 1 + draws.normal(0, 0.1, 200), chosen)
    assert 0.95 < difference.low < 1 < difference.high < 1.05
    assert difference.p < 0.001


def test_what_is_not_defined_is_none():
    of_model = figures.of_rewards(table({"reward/a": 1.0}, {"reward/a": 1.0}), "a")
    assert (of_model.chosen, of_model.difference, of_model.win_rate) == (None, None, None)
    assert of_model.length_correlation is None
    decoding = figures.of_decoding(table({"reward/a": 1.0, "chosen/a": 0.0}), ["a"])
    assert decoding.rewards["a"].mean == Estimate(1.0, None, None)
    assert decoding.rewards["a"].difference == Difference(1.0, None, None, None)


def test_shares_are_of_the_answers_that_were_given():
    rows = table(
        {"finished": False, "text": "a b"},
        {"refusal": True, "source": "t"},
        {"empty": True, "text": "", "tokens": 1},
        {"text": None, "tokens": None, "finished": None, "empty": None, "refusal": None},
    )
    decoding = figures.of_decoding(rows, [])
    assert (decoding.answers, decoding.unanswered) == (3, 1)
    assert [decoding.finished, decoding.empty, decoding.refusals] == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert decoding.refusals_by_source == {"s": SourceShare(0.0, 2), "t": SourceShare(1.0, 1)}
    assert decoding.length.mean == 3
    assert decoding.kl is None


def test_answers_under_the_negative_prompt_are_compared_with_those_without():
    rows = table(
        {"query_id": "x", "reward/a": 1.0},
        {"query_id": "y", "reward/a": 2.0},
        {"query_id": "y", "reward/a": -1.0, "decoding": "negative"},
        {"query_id": "x", "reward/a": None, "decoding": "negative"},
    )
    decodings = figures.decodings(rows, ["a"])
    assert decodings["negative"].rewards["a"].against_sampled.value == -3
    assert "against_sampled" not in decodings["sampled"].rewards["a"].to_dict()


def test_a_comparison_that_no_query_allows_is_told_as_none():
    rows = table({"reward/a": 1.0}, {"reward/a": None, "decoding": "negative"})
    negative = figures.decodings(rows, ["a"])["negative"]
    assert negative.to_dict()["rewards"]["a"]["against_sampled"] is None
    assert DecodingFigures.from_dict(negative.to_dict()) == negative
    assert isinstance(negative.rewards["a"], NegativeRewardFigures)
