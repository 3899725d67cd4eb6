"""The win rate at equal length, on verdicts whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from neat_train.judging.length_control import length_controlled

SAME = np.repeat([50.0, -50.0], 150)  # half are longer, half are shorter, by the same


def verdicts(won_of_longer: int, won_of_shorter: int) -> np.ndarray:
    return np.concatenate([np.arange(150) < won_of_longer, np.arange(150) < won_of_shorter]).astype(float)


def test_the_middle_between_longer_and_shorter_is_what_equal_length_gives() -> None:
    """Two groups and two coefficients: the fit hits both shares, and theta is the mean of their logits."""
    rate = length_controlled(verdicts(120, 60), SAME)
    assert rate is not None
    # Firth's penalty for one share a group adds half a win and half a loss to each (Jeffreys' prior).
    assert rate.value == pytest.approx(expit((logit(120.5 / 151) + logit(60.5 / 151)) / 2), abs=1e-6)
    assert rate.low < 0.62 < rate.high


def test_a_judge_that_only_counts_letters_says_nothing_at_equal_length() -> None:
    rate = length_controlled(verdicts(150, 0), SAME)
    assert rate is not None
    assert rate.value == pytest.approx(0.5, abs=1e-6)
    assert rate.high - rate.low > 0.5


def test_a_judge_that_does_not_count_letters_keeps_its_rate() -> None:
    rate = length_controlled(verdicts(105, 105), SAME)
    assert rate is not None
    assert rate.value == pytest.approx(0.7, abs=0.005)
    # Wald, of 300: 1.96 sqrt(0.21 / 300) = 0.052 either way.
    assert (rate.low, rate.high) == pytest.approx((0.7 - 0.052, 0.7 + 0.052), abs=0.01)


def test_ties_are_half_and_say_more_than_coins() -> None:
    ties = length_controlled(np.full(300, 0.5), SAME)
    coins = length_controlled(verdicts(75, 75), SAME)
    assert ties is not None
    assert coins is not None
    assert [ties.value, coins.value] == pytest.approx([0.5, 0.5], abs=1e-6)
    assert ties.high - ties.low < (coins.high - coins.low) / 5


@pytest.mark.parametrize(
    "longer",
    [
        np.arange(-99.0, 100.0),
        np.full(300, 7.0),
        np.zeros(300),
        500 + 100 * np.sin(np.arange(300.0)),
        -np.arange(300.0),
    ],
    ids=["too few", "lengths alike", "all equal", "always longer", "never longer"],
)
def test_it_is_left_out_where_it_cannot_be_told(longer: np.ndarray) -> None:
    assert length_controlled(np.arange(len(longer)) % 2.0, longer) is None


def test_one_in_twenty_that_is_not_longer_is_enough_and_equal_lengths_count() -> None:
    longer = np.concatenate([np.zeros(15), np.linspace(1, 300, 285)])
    assert length_controlled(np.arange(300) % 2.0, longer) is not None
    longer[0] = 1
    assert length_controlled(np.arange(300) % 2.0, longer) is None


@pytest.mark.slow
def test_nineteen_in_twenty_intervals_hold_the_truth_with_ties_from_two_orders() -> None:
    covered = []
    for seed in range(200):
        draws = np.random.default_rng(seed)
        longer = draws.normal(30, 100, 300)
        chances = expit(0.4 + np.tanh(longer / longer.std()))
        rate = length_controlled((draws.random((2, 300)) < chances).mean(axis=0), longer)
        covered.append(rate is not None and rate.low <= expit(0.4) <= rate.high)
    assert 0.91 <= np.mean(covered) <= 0.99
