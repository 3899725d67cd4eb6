"""Accuracy, calibration and length correlation of a reward model, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neat_train.reward_model.measures import (
    Pairs,
    accuracy,
    accuracy_by_gap,
    calibration,
    length_correlation,
    verdict_accuracy,
)


def pairs(*gaps: float) -> Pairs:
    return Pairs(np.array(gaps), np.arange(len(gaps)))


def test_pairs_are_those_of_every_label() -> None:
    found = Pairs.of([([1.0, 3.0, 2.0], [(1, 2, 0)]), ([0.5], []), ([0.0, 4.0], [(0, 1), (1, 0)])])
    assert found.gap.tolist() == [1.0, 2.0, 1.0, -4.0, 4.0]
    assert found.record.tolist() == [0, 0, 0, 2, 2]


def test_a_tie_is_no_agreement() -> None:
    found = accuracy(pairs(1.0, 0.0, -1.0, 2.0))
    assert (found["accuracy"], found["pairs"]) == (0.5, 4.0)
    assert found["accuracy_low"] < 0.5 < found["accuracy_high"]
    assert accuracy(pairs()) == {}


def test_a_model_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    sure = math.log(3.0)  # 75 %
    assert calibration(pairs(sure, sure, sure, -sure))["ece"] == pytest.approx(0.0, abs=1e-12)
    assert calibration(pairs(sure, sure, -sure, -sure))["ece"] == pytest.approx(0.25)
    assert calibration(pairs(0.0, 0.0))["ece"] == 0.0


def test_bins_are_weighed_by_their_pairs() -> None:
    # 3 pairs at 75 %, all right (off by .25), 1 pair at 10 / 11, wrong
    found = calibration(pairs(*[math.log(3.0)] * 3, -math.log(10.0)))
    assert found["ece"] == pytest.approx((3 * 0.25 + 10 / 11) / 4)
    assert (found["reliability/0.775"], found["reliability_pairs/0.775"]) == (1.0, 3.0)
    assert found["confidence/0.925"] == pytest.approx(10 / 11)


def test_accuracy_by_gap_leaves_out_empty_bins() -> None:
    assert accuracy_by_gap(pairs(0.7, -0.6, 5.0)) == {"accuracy_from_gap/0.5": 0.5, "accuracy_from_gap/2": 1.0}


def test_length_is_compared_inside_records() -> None:
    """Long records with low scores do not hide that the longer response of each has the higher one."""
    found = length_correlation([([1.0, 2.0], [10, 20]), ([-9.0, -8.0], [500, 510]), ([7.0], [3])])
    assert found["length_correlation"] == pytest.approx(1.0)
    assert length_correlation([([1.0], [2])]) == {}


def test_verdicts_are_read_by_the_sign() -> None:
    assert verdict_accuracy([1.0, -1.0], [-2.0, -3.0]) == {"verdict_accuracy": 0.75, "verdicts": 4.0}
