"""JSON Lines: the fast reader takes what the standard library's takes, and makes the same of it."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neat_data.sources.files.json_lines import lines
from neat_data.sources.row import RawRow

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["chosen", "rejected", 'a "b"', "é"]), VALUES, max_size=4)


def read(line: str | bytes) -> RawRow:
    (row,) = lines(io.BytesIO(line if isinstance(line, bytes) else line.encode()))
    return row


@given(OBJECTS, st.booleans())
@example({"chosen": "a\u2019\U0001f600\x00", "rejected": 2**70}, True)
@example({"chosen": -0.0, "rejected": float("nan"), "é": 1e308}, False)
def test_a_line_means_what_the_standard_library_reads_in_it(row: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(row, ensure_ascii=ascii_only)
    assert repr(read(text).columns) == repr(json.loads(text))  # as text: NaN is NaN, 1 is not 1.0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('{"a": {"b": 1, "\\u0062": 2}}', "duplicate_key"),
        ('{"a": "\\ud800"}', "bad_unicode"),
        ('{"a": "x\ty"}', "not_json"),
        ('{"a": 1} x', "not_json"),
        ('{"a": 01}', "not_json"),
        ("[1]", "not_json"),
        (b'{"a": "\xff"}', "not_utf8"),
    ],
)
def test_what_has_no_one_meaning_is_refused_with_its_reason(line: str | bytes, reason: str) -> None:
    row = read(line)
    assert row.columns is None
    assert row.problem is not None
    assert row.problem.reason == reason


@pytest.mark.parametrize("depth", [100, 900])
def test_a_value_may_be_nested_as_deeply_as_the_standard_library_takes_it(depth: int) -> None:
    text = '{"a": ' + "[" * depth + "]" * depth + "}"
    assert read(text).columns == json.loads(text)
