"""The arithmetic of `stats` against answers worked out by hand and against scipy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from neat_data.analysis.measures import (
    Z95,
    auc,
    average_ranks,
    counts_between,
    effective_size,
    quantiles,
    share,
    sigmoid,
    spearman,
    summary,
    wilson,
)

SMALL = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_ends_are_the_shares_that_a_score_test_just_does_not_reject(count, more):
    size = count + more
    p = count / size
    for end in wilson(p, size):
        assert abs(p - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / size), abs=1e-9)


def test_wilson_agrees_with_scipy():
    expected = scipy_stats.binomtest(7, 50).proportion_ci(method="wilson")
    assert wilson(7 / 50, 50) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_pairs_of_different_queries_count_in_full():
    assert effective_size(np.array([True, False, True]), np.array([4, 7, 9])) == (3.0, 3)


def test_pairs_of_one_query_are_worth_fewer():
    # clusters (hits of pairs): 1/1, 0/1, 0/1, 2/2, 3/3. p = 6/8, residuals x - p m = 1/4, -3/4, -3/4, 1/2, 3/4
    hits = np.array([1, 0, 0, 1, 1, 1, 1, 1], dtype=bool)
    clusters = np.array([0, 1, 2, 3, 3, 4, 4, 4])
    variance = Fraction(5, 4) * Fraction(2, 64)  # the squares of the residuals add up to 2
    effect = variance / (Fraction(3, 4) * Fraction(1, 4) / 7)
    assert effect == Fraction(35, 24)
    assert effective_size(hits, clusters) == (pytest.approx(float(8 / effect)), 5)


def test_copies_of_a_pair_add_nothing():
    hits, clusters = np.array([True, False, False, True, False]), np.arange(5)
    size, different = effective_size(np.repeat(hits, 3), np.repeat(clusters, 3))
    # the effect of 3 copies is 3 (n - 1) C / ((C - 1) n) = 3 * 14 * 5 / (4 * 15) = 7/2, so 15 pairs are worth 30/7
    assert (size, different) == (pytest.approx(30 / 7), 5)


@pytest.mark.parametrize("hits", [[True] * 4, [False] * 4])
def test_a_share_of_none_or_all_counts_queries(hits):
    assert effective_size(np.array(hits), np.array([1, 1, 1, 2])) == (2.0, 2)


def test_one_query_alone_is_worth_one_pair():
    assert effective_size(np.array([True, False, True]), np.array([1, 1, 1])) == (1.0, 1)


def test_clustering_never_narrows_an_interval():
    hits = np.array([True, False] * 6)  # inside each query the pairs cancel
    assert effective_size(hits, np.repeat(np.arange(6), 2))[0] == 12


def test_a_share_of_no_pairs_is_not_defined():
    empty = share(np.array([], dtype=bool), np.array([], dtype=int))
    assert (empty.count, empty.total, empty.share, empty.low, empty.high) == (0, 0, None, None, None)


@given(SMALL)
def test_quantiles_and_moments_are_numpys(values):
    sample = np.array(values, dtype=np.float64)
    levels = (0.0, 0.1, 0.5, 0.77, 1.0)
    assert quantiles(np.sort(sample), levels) == pytest.approx(np.quantile(sample, levels))
    summarised = summary(np.sort(sample))
    assert (summarised.mean, summarised.std, summarised.median) == pytest.approx(
        (sample.mean(), sample.std(), np.median(sample))
    )


def test_a_summary_of_nothing_is_none_throughout():
    assert summary(np.array([])).mean is None
    assert summary(np.array([])).maximum is None


@given(SMALL)
def test_ranks_are_scipys(values):
    assert average_ranks(np.array(values)) == pytest.approx(scipy_stats.rankdata(values))


def test_counted_ranks_are_sorted_ranks():
    values = np.random.default_rng(0).integers(0, 50, 200)
    assert average_ranks(values).tolist() == average_ranks(values.astype(float)).tolist()


def test_spearman_is_scipys_with_ties():
    x, y = np.array([1, 2, 2, 5, 0, 7]), np.array([0.5, 0.5, 3.0, 1.0, -2.0, 3.0])
    assert spearman(x, y) == pytest.approx(scipy_stats.spearmanr(x, y).statistic)


def test_spearman_of_a_constant_is_not_defined():
    assert spearman(np.array([1, 1, 1]), np.array([1, 2, 3])) is None
    assert spearman(np.array([]), np.array([])) is None


def test_auc_counts_wins_and_half_of_the_ties():
    # 2 beats 1, ties 2, loses to 3; 4 beats all three: (1 + 1/2 + 3) / 6
    assert auc(np.array([2.0, 4.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(4.5 / 6)
    assert auc(np.array([]), np.array([1.0])) is None


def test_sigmoid_neither_overflows_nor_loses_small_values():
    values = sigmoid(np.array([-1000.0, -40.0, 0.0, 40.0, 1000.0]))
    assert values == pytest.approx([0.0, math.exp(-40), 0.5, 1.0, 1.0], rel=1e-12)


def test_what_lies_beyond_the_edges_is_counted_in_the_outer_bins():
    values = np.array([-9.0, -1.0, -0.1, 0.0, 0.5, 1.0, 9.0])
    assert counts_between(values, np.array([-1.0, 0.0, 1.0])).tolist() == [3, 4]
