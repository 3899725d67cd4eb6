"""What reviewers said as labels: kept before dropped, the better grade, comparisons and edits, rater by rater."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import neat_data
from neat_data.record import Label, Message, Record, Response, query_id, response_id
from neat_data.store.review_labels import labels_of
from neat_data.store.reviews import Event, standing
from tests.support.reviewing import reviewed, say

QUERY = query_id((Message("user", "Hi"),))
A, B, C, EDITED = (response_id(QUERY, text) for text in ("a", "b", "c", "better"))


def _record(*texts: str) -> Record:
    answers = tuple(Response(response_id(QUERY, text), text, 0.0) for text in texts)
    return Record(QUERY, (Message("user", "Hi"),), answers)


@pytest.mark.parametrize(
    ("events", "orders", "verdicts"),
    [
        ([Event("1", A, "keep"), Event("2", B, "drop")], [(A, B)], {A: True, B: False}),
        ([Event("1", A, "off_prompt"), Event("2", B, "keep")], [(B, A)], {A: False, B: True}),
        ([Event("1", A, "keep", scale=2), Event("2", B, "keep", scale=5)], [(B, A)], {A: True, B: True}),
        ([Event("1", A, "keep", scale=5), Event("2", B, "keep", scale=5)], [], {A: True, B: True}),
        ([Event("1", A, "worse", than=B)], [(B, A)], {}),
        ([Event("1", A, "same", than=B)], [], {}),
        ([Event("1", A, "keep"), Event("2", B, "drop"), Event("3", A, "worse", than=B)], [(B, A)], {A: True, B: False}),
        ([Event("1", A, "edit", text="better")], [(EDITED, A)], {}),
        ([Event("1", A, "edit", text="not in the record")], [], {}),
        ([Event("1", "0" * 16, "drop")], [], {}),
    ],
)
def test_what_one_rater_said(events, orders, verdicts):
    found = labels_of(_record("a", "b", "better"), {"ann": standing(events)})
    assert [label.order for label in found if label.verdict is None] == orders
    assert {label.order[0]: label.verdict for label in found if label.verdict is not None} == verdicts


def test_each_rater_is_named_and_numbered():
    said = {rater: standing([Event("1", A, "keep"), Event("2", C, "drop")]) for rater in ("ann", "bob")}
    assert labels_of(_record("a", "c"), said) == tuple(
        Label(f"reviews/{rater}", None, None, row, order, verdict)
        for rater in ("ann", "bob")
        for row, (order, verdict) in enumerate([((A, C), None), ((A,), True), ((C,), False)])
    )


def test_reviewed_records_hold_what_was_dropped_and_can_be_exported(tmp_path: Path):
    folder = reviewed(tmp_path / "data", records=3)
    record = next(iter(neat_data.open(folder)))
    _, first, second = (response.response_id for response in record.responses)
    say(folder, "ann", Event("1", first, "drop"), Event("2", second, "keep"))
    (found,) = neat_data.open(folder).reviewed()
    assert len(found.responses) == 3
    assert found.labels[0].order == (second, first)
    out = tmp_path / "pairs.jsonl"
    summary = neat_data.export(folder, to="trl-dpo", out=out, pairs="reviews", progress=False)
    (row,) = (json.loads(line) for line in out.read_text().splitlines())
    assert row["chosen"][0]["content"].startswith("Second")
    assert row["rejected"][0]["content"].startswith("First")
    assert (summary.rows, summary.dropped) == (1, 0)
