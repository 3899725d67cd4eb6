"""Coefficients of agreement against textbook cases, and intervals that draw whole queries."""

from __future__ import annotations

import numpy as np
import pytest

from neat_data.review.agreement import alpha, kappa

NAN = np.nan
# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, the example of four observers.
RATINGS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


def test_alpha_is_that_of_the_published_example():
    units = np.arange(RATINGS.shape[1])
    assert alpha(RATINGS, units, "nominal").value == pytest.approx(0.743, abs=5e-4)
    ordinal = alpha(RATINGS, units, "ordinal")
    assert ordinal.value == pytest.approx(0.815, abs=5e-4)
    assert ordinal.units == 11
    assert ordinal.low is not None
    assert ordinal.high is not None
    assert ordinal.low < ordinal.value < ordinal.high


def test_kappa_is_what_one_works_out_by_hand():
    one = np.array([1.0] * 25 + [0.0] * 25)
    other = np.array([1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15)
    found = kappa(one, other, np.arange(50), "nominal")  # 35 of 50 agree, 25 by chance
    assert found.value == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert found.units == 50


def test_only_what_both_rated_counts():
    one, other = np.array([1.0, 0.0, NAN, 1.0]), np.array([1.0, 0.0, 1.0, NAN])
    found = kappa(one, other, np.arange(4), "nominal")
    assert (found.units, found.value) == (2, 1.0)


def test_agreement_is_not_defined_where_everybody_said_one_thing():
    same = np.ones(5)
    for found in (kappa(same, same, np.arange(5), "nominal"), alpha(np.stack([same, same]), np.arange(5), "nominal")):
        assert (found.units, found.value, found.low, found.high) == (5, None, None, None)


def test_nothing_that_two_rated_has_no_coefficient():
    apart = np.array([[1.0, NAN], [NAN, 0.0]])
    assert alpha(apart, np.arange(2), "nominal").units == 0
    assert kappa(apart[0], apart[1], np.arange(2), "nominal").value is None


def test_units_of_one_query_widen_the_interval_and_one_query_has_none():
    random = np.random.default_rng(0)
    one = random.integers(2, size=60).astype(float)
    other = np.where(np.repeat(random.random(10) < 0.7, 6), one, 1 - one)
    apart, together = (kappa(one, other, clusters, "nominal") for clusters in (np.arange(60), np.arange(60) // 6))
    assert apart.value == together.value
    assert together.high - together.low > apart.high - apart.low
    assert kappa(one, other, np.zeros(60, int), "nominal").low is None


# Of 33 units one step apart are 11 and two steps 1; by the sums of rows and columns 473 / 33 and 250 / 33 would be.
@pytest.mark.parametrize(
    ("level", "value"), [("nominal", 1 - 12 * 33 / (473 + 250)), ("ordinal", 1 - (11 + 4) * 33 / (473 + 4 * 250))]
)
def test_kappa_of_grades_weighs_how_far_apart_two_stand(level, value):
    table = np.array([[7, 2, 1], [3, 5, 2], [0, 4, 9]])
    one, other = (np.repeat(codes, table.ravel()).astype(float) for codes in np.divmod(np.arange(9), 3))
    assert kappa(one, other, np.arange(33), level).value == pytest.approx(value)
