"""Best of k and RewardBench 2's score of ties, by hand and beside its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neat_data.record import Label, Message, Record, Response, query_id, response_id
from neat_train.comparison.reward_models import Question, best_of, question, ties

QUERY = (Message("user", "Name a river."),)


def record(texts: list[str], labels: list[tuple[list[str], bool | None]], meta: str | None = None) -> Record:
    ids = {text: response_id(query_id(QUERY), text) for text in texts}
    said = [
        Label("a.jsonl", None, "train", row, tuple(ids[text] for text in order), verdict)
        for row, (order, verdict) in enumerate(labels)
    ]
    responses = tuple(Response(ids[text], text, reward=-float(place)) for place, text in enumerate(texts))
    return Record(query_id(QUERY), QUERY, responses, tuple(said), meta)


def test_the_first_of_an_order_is_right_and_all_others_are_wrong() -> None:
    found = question(record(["Rhine", "Nile", "Ganges", "Po"], [(["Nile", "Po"], None)], '{"id": "7"}'))
    assert found == Question("7", (1,), (0, 2, 3), ((1, 3),))


def test_verdicts_say_what_is_right() -> None:
    found = question(record(["Rhine", "Nile", "Alps"], [(["Rhine"], True), (["Nile"], True), (["Alps"], False)]))
    assert found is not None
    assert (found.right, found.wrong, found.pairs) == ((0, 1), (2,), ((0, 2), (1, 2)))


def test_a_record_without_labels_asks_nothing() -> None:
    assert question(record(["Rhine"], [])) is None


def test_best_of_four_shares_a_tie_at_the_top() -> None:
    asked = Question("a", (2,), (0, 1, 3), ())
    assert best_of(np.array([0.0, 1.0, 2.0, 1.0]), asked) == 1.0
    assert best_of(np.array([2.0, 1.0, 2.0, 2.0]), asked) == pytest.approx(1 / 3)
    assert best_of(np.array([3.0, 1.0, 2.0, 2.0]), asked) == 0.0


ROWS = [
    ("ref:1", [2.0], [0.0, 1.0]),
    ("ref:2", [0.5], [0.8, 0.1]),
    ("ref:3", [1.0], [0.0]),
    ("tied:1", [3.0, 2.5], [0.5, 1.0]),
    ("tied:2", [2.0, 0.9], [0.7, 0.2]),
    ("tied:3", [1.0, 1.0], [0.0, -1.0]),
    ("tied:4", [1.0, 0.0], [2.0, 0.5]),
]


def test_ties_are_weighed_as_reward_bench_weighs_them() -> None:
    """Its aggregation written out on a small set: pairs of ref and tied share a number; tied:4 has no ref."""
    found = ties([(name, np.array(right), np.array(wrong)) for name, right, wrong in ROWS])
    assert found is not None
    assert (found.records, found.tied_accuracy, found.preferred) == (4, 0.75, 0.5)
    # Margins of right over wrong: ref 1, -0.3, 1; tied 1.5, 0.2, 1. Spread of the right: 0.5, 1.1, 0.
    preferred, hard = 2 / 3, 2 / 3
    far = (math.tanh(1.0 / 0.5 - 1) + math.tanh(-0.3 / 1.1 - 1) + 1.0) / 3  # 1 / 0 is infinity, whose tanh is 1
    wanted = 0.3 * 0.75 + 0.3 * (2 / 3) + 0.2 * preferred + 0.2 * hard + 0.01 * far
    assert found.score == pytest.approx(wanted)


def test_without_records_that_belong_together_there_is_no_weighed_score() -> None:
    found = ties([("a", np.array([2.0, 1.0]), np.array([0.5])), ("b", np.array([1.0]), np.array([0.0]))])
    assert found is not None
    assert (found.records, found.tied_accuracy, found.preferred, found.score) == (1, 1.0, 0.0, None)
    assert ties([("b", np.array([1.0]), np.array([0.0]))]) is None
