"""`--where` and `--by`: what they may name, and what a bad one is answered with."""

from __future__ import annotations

import polars as pl
import pytest

from neat_data.errors import InputError
from neat_data.expressions import grouping, select
from neat_data.record import SCHEMA, to_table


@pytest.fixture
def frame(record_of):
    records = [
        record_of("one", {"a": 3.0, "b": 1.0}, [("a", "b")], place=("x.jsonl", "helpful", "train"), meta='{"k":"v"}'),
        record_of(["q", "r", "two"], {"a": 0.0, "b": 2.5}, [("a", "b"), ("b", "a")], place=("y.jsonl", None, "test")),
        record_of("three", {"a": 1.0, "b": None, "c": 0.5}, [("a", "b")], meta='{"k\\"]":1,"deep":{"k":2}}'),
        record_of("four", {"a": 1.0}, [("a",)], verdict=True),
        record_of("five", {"a": 1.0, "b": 2.0, "c": 4.0}, [("c", "a", "b")]),
    ]
    return pl.from_arrow(to_table(records)).lazy()


def kept(frame: pl.LazyFrame, where: str) -> list[str]:
    selected = select(frame, where).collect(engine="streaming")
    assert selected.columns == SCHEMA.names
    return [messages[-1]["content"] for messages in selected["messages"].to_list()]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("gap > 1", ["one", "five"]),  # of a ranking: the first against the last
        ("gap < 0", ["two"]),
        ("gap IS NULL", ["three", "four"]),
        ("gap_abs BETWEEN 2 AND 2.2", ["one", "five"]),
        ("turns = 2", ["two"]),
        ("n_responses = 3 AND reward_best > 1", ["five"]),
        ("reward_worst < 0.7", ["two", "three"]),
        ("source = 'x.jsonl' OR split = 'test'", ["one", "two"]),
        ("subset LIKE 'help%'", ["one"]),
        ("meta IS NOT NULL", ["one", "three"]),
    ],
)
def test_an_expression_selects_records(frame, where, expected):
    assert kept(frame, where) == expected


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("nope > 1", "no column 'nope'"),
        ("gap >", "gap >"),
        ("gap", "neither true nor false"),
        ("gap > 'a' AND", "gap"),
        ("gap > source", "gap > source"),
    ],
)
def test_a_bad_expression_lists_the_columns(frame, where, said):
    with pytest.raises(InputError) as error:
        kept(frame, where)
    assert said in str(error.value)
    assert "columns: query_id, messages, responses, labels, meta, source, subset, split, turns" in str(error.value)
    assert len(str(error.value).splitlines()) == 2


def test_python_is_not_evaluated(frame, tmp_path):
    with pytest.raises(InputError):
        kept(frame, f"__import__('pathlib').Path('{tmp_path}/x').touch()")
    assert not list(tmp_path.iterdir())


def test_meta_is_read_by_its_exact_key(frame):
    values = {
        by: frame.select(grouping(by)).collect().to_series().to_list() for by in ("meta.k", 'meta.k"]', "meta.deep")
    }
    assert values["meta.k"] == ["v", None, None, None, None]
    assert values['meta.k"]'] == [None, None, "1", None, None]
    assert values["meta.deep"] == [None, None, '{"k":2}', None, None]


@pytest.mark.parametrize("by", ["colour", "meta.", "meta", ""])
def test_an_unknown_grouping_is_refused(by):
    with pytest.raises(InputError, match=r"source, subset, split, turns, meta\.KEY"):
        grouping(by)


@pytest.mark.parametrize(
    "where",
    [
        "gap > max(gap)", "MAX (gap) > 1", '"max"(gap) > 1', "count(*) > 1", "sum(gap) > 3 AND gap > 1",
        "gap > avg(gap)", "first(gap) = 1", "gap = quantile_cont(gap, 0.5)", "stddev(gap) > 1", "median(gap) < gap",
        "COLUMNS('gap.*') > 1", "gap > 1 AND not max(gap) > 1", "gap > variance(gap)",
    ],
)  # fmt: skip
def test_what_looks_at_other_rows_is_refused(frame, where):
    with pytest.raises(InputError, match=r"no function of one record|no place in an expression"):
        kept(frame, where)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("abs(gap) >= 2 AND NOT (gap < 0)", ["one", "five"]),
        ("n_responses IN (3) AND gap IS NOT NULL", ["five"]),
        ("(gap > 1) OR (coalesce(subset, '') = 'none')", ["one", "five"]),
        ("length(meta) > 15", ["three"]),
        ("CASE WHEN (gap < 0) THEN (true) ELSE (false) END", ["two"]),
        ("greatest(gap, 0) = 0 AND array_length(labels) = 2 AND starts_with(lower(source), 'y')", ["two"]),
        ("CAST(gap AS INT) = 2 AND subset = 'helpful'", ["one"]),
        ("subset = 'max(x)' OR turns = 2", ["two"]),
    ],
)
def test_functions_of_one_row_are_taken(frame, where, expected):
    assert kept(frame, where) == expected


OPENED = "SELECT max(n) FROM read_csv('{}')"


@pytest.mark.parametrize(
    "where",
    [
        f"gap > ({OPENED})",
        f"n_responses IN ({OPENED})",
        f"EXISTS ({OPENED})",
        f"n_responses = ANY({OPENED})",
        f"gap > (WITH a AS ({OPENED}) SELECT * FROM a)",
        "gap > (sElEcT max(n) FROM read_csv('{}'))",
        "gap > (\u017felect max(n) FROM read_csv('{}'))",
        f"gap > (SE/**/LECT 1) OR gap > ({OPENED})",
        f"subset = E'\\'' OR gap > ({OPENED}) OR subset = ''",
        f"subset = $$'$$ OR gap > ({OPENED}) OR subset = '$$'",
        f"subset = 'a\\' OR gap > ({OPENED}) OR subset = 'b'",
        f"`'` = 1 OR gap > ({OPENED}) OR `'` = 1",
        f"gap > 1 -- '\n OR gap > ({OPENED}) -- '",
        f"gap > 1; {OPENED}",
        "gap > 1 FROM read_csv('{}')",
        "read_csv('{}') > 1",
    ],
)
def test_an_expression_opens_nothing(frame, tmp_path, monkeypatch, where):
    """A file that is opened says so: polars reads it to learn its columns, and this one has none of that name."""
    (tmp_path / "secret.csv").write_text("root:x:0\n1\n")
    with pytest.raises(InputError) as error:
        kept(frame, where.replace("{}", str(tmp_path / "secret.csv")))
    assert "root:x:0" not in str(error.value)
    assert "valid columns" not in str(error.value)


@pytest.mark.parametrize("where", ["unnest(labels) IS NULL", "row_number() OVER (ORDER BY turns) > 1"])
def test_windows_and_lists_of_rows_are_refused(frame, where):
    with pytest.raises(InputError):
        kept(frame, where)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("source = 'select * from x' OR source = 'it''s -- /* $$ `' OR turns = 2", ["two"]),
        ('"turns" = 2', ["two"]),
        ("CASE WHEN turns = 2 THEN TRUE ELSE FALSE END", ["two"]),
        ("EXTRACT(YEAR FROM CAST('2024-01-01' AS DATE)) = 2024 AND turns = 2", ["two"]),
        (r"source LIKE 'x\.%' OR turns = 2", ["two"]),
        ("subset IN ('helpful', 'with values') AND NOT turns > 1", ["one"]),
    ],
)
def test_words_of_queries_may_stand_in_a_text(frame, where, expected):
    assert kept(frame, where) == expected
