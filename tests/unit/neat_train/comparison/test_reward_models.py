"""Best of k and RewardBench 2's score of ties, by hand and beside its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert found.score == pytest.approx(0.6946901968342275, abs=1e-15)  # what their own function says of these rows


def reward_bench(rows: list[tuple[str, list[float], list[float]]]) -> float:
    """The ties subset's score once more, as allenai/reward-bench's `process_single_model` defines it, by columns.

    Its sum: .3 of the accuracy of either kind of row; .2 where the gap to the best wrong answer exceeds the spread of
    the right ones, in the tied row and in the worse of the tied and its reference row; .01 of tanh of how far.
    """
    numbers = {name: (min(right) - max(wrong), max(right) - min(right)) for name, right, wrong in rows}
    kinds = [[name for name in numbers if name.startswith(kind)] for kind in ("tied:", "ref:")]
    accuracies = [np.mean([numbers[name][0] > 0 for name in names]) for names in kinds]
    both = sorted({name.split(":")[1] for name in kinds[0]} & {name.split(":")[1] for name in kinds[1]})
    gap, spread = np.array([numbers[f"tied:{number}"] for number in both]).T
    worse = np.minimum(gap, [numbers[f"ref:{number}"][0] for number in both])
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.nan_to_num(np.tanh(worse / spread - 1.0), nan=0.0)
    parts = (*accuracies, np.mean(gap > spread), np.mean(worse > spread), np.mean(far))
    return float(np.dot((0.3, 0.3, 0.2, 0.2, 0.01), parts))


few = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=4)


@given(st.lists(st.tuples(few, few, few, few, st.integers(-3, 3).map(float)), min_size=1, max_size=6))
def test_ties_equal_an_independent_version_of_the_published_formula(made) -> None:
    """Whole numbers: equal scores, spreads of 0 and gaps of 0 occur often."""
    rows = [(f"ref:{n}", [one], wrong) for n, (_, _, wrong, _, one) in enumerate(made)]
    rows += [(f"tied:{n}", [*right, more[0]], wrong) for n, (right, more, _, wrong, _) in enumerate(made)]
    rows.append(("tied:99", [1.0, 0.0], [0.5]))  # without a reference row
    found = ties([(name, np.array(right), np.array(wrong)) for name, right, wrong in rows])
    assert found is not None
    assert found.score == pytest.approx(reward_bench(rows), abs=1e-12)


def test_without_records_that_belong_together_there_is_no_weighed_score() -> None:
    found = ties([("a", np.array([2.0, 1.0]), np.array([0.5])), ("b", np.array([1.0]), np.array([0.0]))])
    assert found is not None
    assert (found.records, found.tied_accuracy, found.preferred, found.score) == (1, 1.0, 0.0, None)
    assert ties([("b", np.array([1.0]), np.array([0.0]))]) is None
