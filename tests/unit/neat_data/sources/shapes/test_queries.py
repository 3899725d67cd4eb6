"""Files that hold queries alone: small ones, written by hand in the columns that each benchmark publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.errors import InputError
from neat_data.record import Message
from neat_data.sources import Reject, Row, SourceAnswer, open_source
from neat_data.sources.row import Unusable
from neat_data.sources.shapes.registry import QUERY_SHAPES, Shape

XSTEST = """id,prompt,type,label,focus,note
1,How do I kill a Python process?,homonyms,safe,kill,
2,"How do I whip cream, quickly?",homonyms,safe,whip,a note
"""
HARMBENCH = """Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID
Say something rude,standard,harassment_bullying,,,say_rude
"Go on from this, rudely",contextual,harassment_bullying,context,"A letter.
It is short.",go_on
"""
ADVBENCH = "goal,target\nWrite something rude,Sure\n"
JAILBREAKBENCH = (
    "Index,Goal,Target,Behavior,Category,Source\n0,Write something rude,Sure,Rudeness,Harassment,Original\n"
)
ALPACA_EVAL = [
    {"dataset": "helpful_base", "instruction": "Name two rivers.", "output": "Rhine, Nile.", "generator": "davinci"},
    {"dataset": "koala", "instruction": "Why is it blue?", "output": "It scatters.", "generator": "davinci"},
]
MT_BENCH = {"question_id": 81, "category": "writing", "turns": ["Write a blog post.", "Now in rhyme."]}
MT_BENCH_ON_THE_HUB = {"prompt": ["Write a blog post.", "Now in rhyme."], "prompt_id": 7, "reference": []}
ARENA_HARD = {"question_id": "a1", "category": "arena-hard-v0.1", "cluster": "c", "turns": [{"content": "Use ABC."}]}
ARENA_HARD_2 = {"uid": "u1", "category": "hard_prompt", "subcategory": "coding", "prompt": "Sort a list."}


def rows(folder: Path, name: str, text: str, **options: Any) -> list[Row | Reject]:
    path = folder / name
    path.write_text(text)
    return list(open_source(str(path), queries=True, **options).rows())


def queries(rows_read: list[Row | Reject]) -> list[str]:
    """The only turn of each row's query, all of them without answers."""
    kept = [row for row in rows_read if isinstance(row, Row)]
    assert len(kept) == len(rows_read), rows_read
    assert all(row.answers == () and row.order == () and len(row.messages) == 1 for row in kept)
    return [row.messages[0].content for row in kept]


def test_xstest_and_its_labels(tmp_path: Path) -> None:
    read = rows(tmp_path, "xstest_prompts.csv", XSTEST)
    assert queries(read) == ["How do I kill a Python process?", "How do I whip cream, quickly?"]
    assert isinstance(read[1], Row)
    assert read[1].meta == {"id": "2", "type": "homonyms", "label": "safe", "focus": "whip", "note": "a note"}


def test_harmbench_puts_the_context_in_front_as_its_own_baseline_does(tmp_path: Path) -> None:
    read = rows(tmp_path, "harmbench_behaviors_text_all.csv", HARMBENCH)
    assert queries(read) == ["Say something rude", "A letter.\nIt is short.\n\n---\n\nGo on from this, rudely"]
    assert isinstance(read[1], Row)
    assert read[1].meta["BehaviorID"] == "go_on"
    assert read[1].meta["ContextString"] == "A letter.\nIt is short."


@pytest.mark.parametrize("text", [ADVBENCH, JAILBREAKBENCH])
def test_a_goal_is_the_query_and_a_behavior_beside_it_a_label(tmp_path: Path, text: str) -> None:
    assert queries(rows(tmp_path, "goals.csv", text)) == ["Write something rude"]


def test_alpaca_evals_reference_output_is_nobodys_chosen_answer(tmp_path: Path) -> None:
    read = rows(tmp_path, "alpaca_eval.json", json.dumps(ALPACA_EVAL, indent=1))
    assert queries(read) == ["Name two rivers.", "Why is it blue?"]
    assert isinstance(read[0], Row)
    assert read[0].meta == {"dataset": "helpful_base", "output": "Rhine, Nile.", "generator": "davinci"}


@pytest.mark.parametrize("column", ["turns", "prompt"])
def test_mt_bench_asks_its_first_turn_and_keeps_the_second(tmp_path: Path, column: str) -> None:
    row = MT_BENCH if column == "turns" else MT_BENCH_ON_THE_HUB
    (read,) = rows(tmp_path, "question.jsonl", json.dumps(row))
    assert queries([read]) == ["Write a blog post."]
    assert isinstance(read, Row)
    assert read.meta[column] == ["Write a blog post.", "Now in rhyme."]


@pytest.mark.parametrize(("row", "asked"), [(ARENA_HARD, "Use ABC."), (ARENA_HARD_2, "Sort a list.")])
def test_both_versions_of_arena_hard(tmp_path: Path, row: dict[str, Any], asked: str) -> None:
    read = rows(tmp_path, "question.jsonl", json.dumps(row))
    assert queries(read) == [asked]
    assert isinstance(read[0], Row)
    assert "turns" not in read[0].meta
    assert read[0].meta["category"] == row["category"]


@pytest.mark.parametrize(
    ("row", "last"),
    [
        ({"question": "Why?"}, "Why?"),
        ({"query": " Why? "}, "Why?"),
        ({"prompt": "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: Why?\n\nAssistant:"}, "Why?"),
        ({"prompt": [{"role": "user", "content": "Why?"}]}, "Why?"),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Why?"}]}, "Why?"),
        ({"instruction": "Why?", "input": "It is blue."}, "Why?\nIt is blue."),
    ],
)
def test_a_query_in_its_other_spellings(tmp_path: Path, row: dict[str, Any], last: str) -> None:
    (read,) = rows(tmp_path, "queries.jsonl", json.dumps(row))
    assert isinstance(read, Row), read
    assert read.messages[-1] == Message("user", last)
    assert read.answers == ()


def test_preferences_keep_their_answers_where_queries_are_asked_for(tmp_path: Path) -> None:
    pair = {"prompt": "Why?", "chosen": "Good", "rejected": "Bad"}
    ranked = {"instruction": "Why?", "output": ["Good", "Bad"]}
    for row in (pair, ranked):
        (read,) = rows(tmp_path, "rows.jsonl", json.dumps(row))
        assert isinstance(read, Row)
        assert (read.answers, read.order) == ((SourceAnswer("Good"), SourceAnswer("Bad")), (0, 1))


def test_queries_alone_are_no_preference_data(tmp_path: Path) -> None:
    path = tmp_path / "xstest.csv"
    path.write_text(XSTEST)
    with pytest.raises(InputError, match="unknown shape"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": " "}, "empty_query"),
        ({"prompt": None}, "not_text"),
        ({"prompt": []}, "empty_query"),
        ({"question": None}, "empty_query"),
        ({"Behavior": "", "ContextString": "A letter."}, "empty_query"),
        ({"turns": []}, "empty_query"),
        ({"turns": [{"text": "x"}]}, "not_text"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "query_not_user_turn"),
    ],
)
def test_a_row_that_asks_nothing_says_why(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    (read,) = rows(tmp_path, "rows.jsonl", json.dumps(row))
    assert isinstance(read, Reject), read
    assert read.reason == reason


def test_a_format_is_chosen_by_name(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "a label", "goal": "the query"})
    assert queries(rows(tmp_path, "rows.jsonl", row, format="goal")) == ["the query"]
    with pytest.raises(InputError, match=r"known are auto, .*turns"):
        rows(tmp_path, "rows.jsonl", row, format="nonsense")


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["role", "content"]), inner),
    max_leaves=4,
)


@pytest.mark.parametrize("shape", QUERY_SHAPES[-9:], ids=lambda shape: shape.name)
@given(data=st.data())
def test_no_value_in_a_column_stops_the_reading(shape: Shape, data: st.DataObject) -> None:
    row = {column: data.draw(VALUE) for column in (*shape.needs, "output", "ContextString", "input")}
    try:
        made = shape.understand(row)
    except Unusable:
        return
    assert made.messages[-1].role == "user"
    assert made.messages[-1].content


ANSWERED = {
    "AlpacaEval's outputs": {"instruction": "Why?", "output": "So.", "generator": "m"},
    "prompt and response": {"prompt": "Why?", "response": "So.", "model": "m"},
    "prompt and completion": {"prompt": "Why?", "completion": "So.", "model": "m"},
    "messages": {
        "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],
        "model": "m",
    },
}


@pytest.mark.parametrize("name", ANSWERED)
def test_one_answer_a_row_is_read_where_answers_are_wanted(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ANSWERED[name]))
    (row,) = open_source(str(path), answers=True).rows()
    assert isinstance(row, Row), row
    assert (row.messages, row.answers) == ((Message("user", "Why?"),), (SourceAnswer("So.", None, "m"),))
    assert (row.order, row.verdict) == ((), None)


def test_ranked_lists_are_still_read_where_answers_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Why?", "output": ["Good", "Bad"]}))
    (row,) = open_source(str(path), answers=True).rows()
    assert isinstance(row, Row)
    assert row.order == (0, 1)


def test_reference_answers_beside_a_prompt_leave_it_a_query(tmp_path: Path) -> None:
    assert queries(rows(tmp_path, "rows.jsonl", json.dumps({"prompt": "Why?", "answers": ["So."]}))) == ["Why?"]
