"""Intervals and tests: worked by hand, published, or held to another way of computing the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from neat_train.statistics import (
    Interval,
    bootstrap,
    detectable,
    detectable_two_level,
    holm,
    mean_interval,
    paired_difference,
    sign_test,
    two_level,
    two_level_difference,
    win_rate,
)


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_the_papers_24_2_4_has_a_rate_of_26_of_30() -> None:
    assert win_rate(24, 2, 4).value == pytest.approx(26 / 30)


def test_the_interval_of_a_win_rate_is_the_one_that_others_publish() -> None:
    """Airway hyper-responsiveness (Bentur et al. 2009): 1 and 7 discordant of 21; Fagerland et al. 2014 give Tango's
    interval of the difference as -0.517 to -0.026.
    """
    low, high = ends(win_rate(1, 7, 13))
    assert (2 * low - 1, 2 * high - 1) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("wins", "losses", "ties"), [(18, 9, 3), (27, 1, 2), (160, 120, 20), (3, 0, 27)])
def test_a_score_test_at_five_per_cent_just_refuses_the_ends(wins: int, losses: int, ties: int) -> None:
    """The nuisance share is rate by maximising the likelihood numerically, not by the formula."""
    n = wins + losses + ties

    def score(difference: float) -> float:
        def loss(share: float) -> float:  # of losses; that of wins is greater by `difference`
            cells = np.array([share + difference, share, 1 - 2 * share - difference])
            return -float(scipy.special.xlogy([wins, losses, ties], np.maximum(cells, 0)).sum())

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (wins - losses - n * difference) / math.sqrt(n * (2 * share + difference - difference**2))

    low, high = ends(win_rate(wins, losses, ties))
    assert score(2 * low - 1) == pytest.approx(1.96, abs=2e-3)
    if high < 1:
        assert score(2 * high - 1) == pytest.approx(-1.96, abs=2e-3)


def test_a_judge_that_only_ties_leaves_some_doubt() -> None:
    """The variance at a difference d is n d (1 - d), so the largest d that is not refused is z^2 / (n + z^2)."""
    z2 = scipy.stats.norm.ppf(0.975) ** 2
    assert ends(win_rate(0, 0, 300)) == pytest.approx((0.5 - z2 / (300 + z2) / 2, 0.5 + z2 / (300 + z2) / 2))


def test_nothing_but_wins_ends_at_one_and_begins_where_wilson_begins() -> None:
    z2 = scipy.stats.norm.ppf(0.975) ** 2
    assert ends(win_rate(30, 0, 0)) == pytest.approx((30 / (30 + z2), 1.0))


@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 400))
def test_exchanging_the_sides_mirrors_the_interval(wins: int, losses: int, ties: int) -> None:
    one, other = win_rate(wins, losses, ties), win_rate(losses, wins, ties)
    assert ends(one) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-6)
    assert 0 <= one.low < one.value < one.high <= 1 or one.value in (0, 1)


@pytest.mark.parametrize("one", [(2_000_000, 0, 1), (0, 1, 2_999_999), (0, 0, 10**9), (10**9, 1, 0)], ids=str)
def test_as_many_verdicts_as_one_likes_have_an_interval(one: tuple[int, int, int]) -> None:
    rate = win_rate(*one)
    assert 0 <= rate.low < rate.value < rate.high <= 1


def test_a_pair_can_be_a_fraction_of_a_win_and_of_a_tie() -> None:
    assert win_rate(3.5, 1, 5.5).value == pytest.approx(6.25 / 10)
    low, high = ends(win_rate(3.5, 1, 5.5))
    assert win_rate(3, 1, 6).low < low < win_rate(4, 1, 5).low
    assert win_rate(3, 1, 6).high < high < win_rate(4, 1, 5).high


def test_no_verdict_has_no_rate() -> None:
    with pytest.raises(ValueError, match="not defined"):
        win_rate(0, 0, 0)


def test_the_sign_test_of_the_papers_neat_against_rrhf() -> None:
    """2 P(X >= 18 of 27 at 1/2) = 2 * 8192284 / 2^27, by adding up the binomials."""
    tail = sum(math.comb(27, k) for k in range(18, 28))
    assert sign_test(18, 9) == pytest.approx(2 * tail / 2**27)
    assert round(sign_test(18, 9), 2) == 0.12
    assert sign_test(0, 0) == 1.0


def test_the_paired_p_counts_all_exchanges_where_there_are_few() -> None:
    """Differences 1, 2, 3, 4: of 16 sign patterns two reach a sum of 10 on either side."""
    paired = paired_difference(np.array([2.0, 3.0, 4.0, 5.0]), np.ones(4))
    assert paired is not None
    assert (paired[0].value, paired[1]) == (2.5, 2 / 16)


def test_pairing_takes_out_what_both_share() -> None:
    draws = np.random.default_rng(0)
    query, noise = draws.normal(0, 10, 200), draws.normal(0, 0.1, 200)
    paired = paired_difference(query + 0.1 + noise, query)
    assert paired is not None
    assert paired[0].low > 0.05
    assert paired[1] == pytest.approx(2 / 10_000)


def test_no_difference_anywhere_is_a_p_of_one() -> None:
    assert paired_difference(np.arange(5.0), np.arange(5.0)) == (Interval(0.0, 0.0, 0.0), 1.0)


def test_other_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="same queries"):
        paired_difference(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="different numbers"):
        two_level_difference([np.zeros(3)], [np.zeros(4)])


def test_one_value_has_no_interval() -> None:
    value = np.array([1.0])
    assert mean_interval(value) is None
    assert paired_difference(value, value) is None
    assert two_level([value, value]) is None
    assert two_level_difference([value], [value]) is None
    assert detectable_two_level([value], [value]) is None


def test_one_seed_is_a_bootstrap_over_queries() -> None:
    values = np.random.default_rng(1).normal(3, 2, 100)
    one, other = two_level([values]), mean_interval(values)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(other.value)
    assert ends(one) == pytest.approx(ends(other), abs=0.1 * (other.high - other.low))


def test_seeds_that_differ_widen_the_interval_and_queries_alone_do_not_tell() -> None:
    queries = np.random.default_rng(2).normal(0, 0.01, 50)
    interval = two_level([queries, queries + 1, queries + 2])
    assert interval is not None
    # Of 0, 1, 2 three times the mean is 0 with probability 1/27, so that is the 2.5 % quantile, and 2 the other one;
    # three seeds are moved away from their mean by the root of 3/2.
    assert (interval.value, *ends(interval)) == pytest.approx((1, 1 - 1.5**0.5, 1 + 1.5**0.5), abs=0.02)


def test_the_resampled_variance_between_seeds_is_the_unbiased_one() -> None:
    """Twice 1.96 standard errors, of 12 seeds without any spread of queries."""
    means = np.random.default_rng(9).normal(0, 1, 12)
    interval = two_level([np.full(5, mean) for mean in means])
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * means.std(ddof=1) / math.sqrt(12), rel=0.05)


def test_seeds_of_other_queries_are_resampled_each_by_itself() -> None:
    draws = np.random.default_rng(3)
    interval = two_level([draws.normal(0, 1, 40), draws.normal(0, 1, 60)])
    assert interval is not None
    assert interval.low < interval.value < interval.high


def test_queries_are_resampled_jointly_so_what_arms_share_goes_out() -> None:
    queries = np.random.default_rng(4).normal(0, 10, 50)
    paired = two_level_difference([queries + 1, queries + 1], [queries, queries])
    assert paired is not None
    assert (paired[0].value, *ends(paired[0])) == pytest.approx((1, 1, 1))
    assert paired[1] == pytest.approx(2 / 5_001)


def test_arms_that_are_the_same_have_a_p_near_one() -> None:
    arms = [np.random.default_rng(seed).normal(0, 1, 50) for seed in range(3)]
    paired = two_level_difference(arms, arms)
    assert paired is not None
    assert paired[0].value == 0
    assert paired[1] > 0.9


def test_holm_as_in_his_paper_of_1979() -> None:
    """Sorted, the smallest counts m times, the next m - 1 times, and none falls below the one before."""
    assert holm([0.04, 0.005, 0.03, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_can_be_detected_is_found_in_four_of_five_experiments() -> None:
    draws = np.random.default_rng(5)
    true = detectable(2.0, 50)
    p = scipy.stats.ttest_1samp(draws.normal(true, 2.0, (4_000, 50)), 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.025)  # the t test has less power than the normal one


def test_what_can_be_detected_among_several_hypotheses_passes_holms_first_step() -> None:
    draws = np.random.default_rng(8)
    true = detectable(2.0, 50, level=0.05 / 5)
    p = scipy.stats.ttest_1samp(draws.normal(true, 2.0, (4_000, 50)), 0, axis=1).pvalue
    assert np.mean([holm([p_of_one, 1, 1, 1, 1])[0] < 0.05 for p_of_one in p]) == pytest.approx(0.8, abs=0.04)


def test_two_level_detection_with_one_seed_is_the_one_level_one() -> None:
    draws = np.random.default_rng(6)
    a, b = draws.normal(0, 1, 300), draws.normal(0, 1, 300)
    assert detectable_two_level([a], [b]) == pytest.approx(detectable(float(np.std(a - b)), 300), rel=0.05)


@pytest.mark.parametrize(("n", "win", "lose"), [(60, 0.5, 0.3), (300, 0.1, 0.05), (30, 0.8, 0.07)])
def test_nineteen_in_twenty_win_rates_hold_the_truth(n: int, win: float, lose: float) -> None:
    draws = np.random.default_rng(7).multinomial(n, [win, lose, 1 - win - lose], 500)
    true = (1 + win - lose) / 2
    covered = [interval.low <= true <= interval.high for interval in (win_rate(*map(int, draw)) for draw in draws)]
    assert 0.92 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize("n", [2, 5, 10, 29, 100])
def test_nineteen_in_twenty_mean_intervals_hold_the_truth(n: int) -> None:
    draws = np.random.default_rng(8).normal(1, 2, (200, n))
    intervals = [mean_interval(values) for values in draws]
    assert 0.90 <= np.mean([interval.low <= 1 <= interval.high for interval in intervals if interval]) <= 0.99


def test_intervals_of_few_values_are_students_and_of_thirty_the_bootstraps() -> None:
    values = np.random.default_rng(10).gamma(2, 1, 30)
    few = mean_interval(values[:29])
    assert few is not None
    expected = scipy.stats.ttest_1samp(values[:29], 0).confidence_interval()
    assert ends(few) == pytest.approx((expected.low, expected.high))
    enough = mean_interval(values)
    assert enough is not None
    assert ends(enough) == bootstrap(values)
