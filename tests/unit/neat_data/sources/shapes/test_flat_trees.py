"""Tables of messages that name what they answer (OpenAssistant): their trees, and what hangs on none."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from neat_data.sources import Reject, Row, open_source

MESSAGES = [
    ("q", None, "Hi", "prompter", None, False),
    ("b", "q", "Go away", "assistant", 1.0, False),
    ("a", "q", "Hello", "assistant", 0.0, False),
    ("d", "q", "Gone", "assistant", 2.0, True),
    ("q2", "a", "Why?", "prompter", 0.0, False),
    ("a2", "q2", "Because.", "assistant", 0.0, False),
    ("b2", "q2", "No.", "assistant", 1.0, False),
    ("lone", None, "Anybody?", "prompter", None, False),
]
COLUMNS = ("message_id", "parent_id", "text", "role", "rank", "deleted")
EXPECTED = [(["Hi"], ["Hello", "Go away"]), (["Hi", "Hello", "Why?"], ["Because.", "No."])]


def table(*more: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [{**dict(zip(COLUMNS, row, strict=True)), "message_tree_id": "t"} for row in (*MESSAGES, *more)]


def read(path: Path) -> tuple[list[tuple[list[str], list[str]]], list[tuple[str, str]]]:
    source = open_source(str(path))
    assert source.format == "oasst-messages"
    found = list(source.rows())
    assert [row.place.row for row in found] == list(range(len(found)))
    good = [row for row in found if isinstance(row, Row)]
    asked = [([turn.content for turn in row.messages], [row.answers[at].text for at in row.order]) for row in good]
    return asked, [(row.reason, row.detail) for row in found if isinstance(row, Reject)]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_every_prompt_with_several_answers_is_a_row_whatever_the_order_of_the_table(
    tmp_path: Path, seed: int | None
) -> None:
    rows = table()
    if seed is not None:
        random.Random(seed).shuffle(rows)
    path = tmp_path / "flat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked, rejects = read(path)
    assert sorted(asked) == sorted(EXPECTED)
    assert [reason for reason, _ in rejects] == ["too_few_responses"]


def test_a_csv_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "message_tree_id"])
        writer.writeheader()
        writer.writerows(table())
    assert read(path)[0] == EXPECTED


def test_messages_that_hang_on_no_tree_are_rejects_one_by_one(tmp_path: Path) -> None:
    lost = [
        ("x", "nobody", "?", "assistant", 0.0, False),
        ("y", "z", "?", "assistant", 0.0, False),
        ("z", "y", "?", "prompter", 0.0, False),
        ("a", "q", "again", "assistant", 0.0, False),
    ]
    path = tmp_path / "flat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table(*lost)))
    asked, rejects = read(path)
    assert asked == EXPECTED
    reasons = [reason for reason, _ in rejects]
    assert reasons == ["bad_message", "too_few_responses", "no_parent", "no_parent", "no_parent"]
    assert any("'nobody'" in detail for _, detail in rejects)


def test_a_thread_too_long_for_a_tree_is_a_reject(tmp_path: Path) -> None:
    rows = table(*((f"m{n}", "lone" if n == 0 else f"m{n - 1}", "?", "assistant", 0.0, False) for n in range(5_000)))
    path = tmp_path / "flat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked, rejects = read(path)
    assert asked == EXPECTED
    assert [reason for reason, _ in rejects] == ["bad_message"]
