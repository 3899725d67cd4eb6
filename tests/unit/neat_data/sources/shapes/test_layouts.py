"""Every layout of `layouts.json`: what is read of it, and the table of that in the documentation.

Each layout asks for a river in Europe and prefers the Rhine to the Nile, or says that the Rhine is good, wherever it
can say so. `python tests/unit/neat_data/sources/shapes/test_layouts.py` writes the table anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from neat_data.errors import InputError
from neat_data.record import Message
from neat_data.sources import Reject, Row, open_source
from neat_data.sources.shapes.registry import SHAPES

ROOT = Path(__file__).parents[5]
PAGE = ROOT / "docs" / "formats" / "layouts.md"
BEGIN, END = "<!-- table -->\n", "<!-- /table -->\n"
LAYOUTS: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "layouts.json").read_text())

ASKED, GOOD, BAD = "Name a river in Europe.", "Rhine", "Nile"
REJECTED = {
    "alpaca_sft": "too_few_responses",
    "broken_messages": "bad_message",
    "chatml_in_text": "templated",
    "dict_of_lists": "bad_message",
    "images_col": "has_images",
    "openai_preference_tools": "has_tools",
    "prompt_with_context": "has_context",
    "tool_roles": "has_tools",
    "two_schemes": "unclear_turns",
}
TIED = {"tie_scores", "argilla_ultrafeedback_cleaned", "helpsteer2_pref_tie"}
ONE_SCORED_ANSWER = {"trl_unpaired_score", "helpsteer2", "scored_response"}
WITH_SYSTEM = {name for name, rows in LAYOUTS.items() if "sailor" in json.dumps(rows)}


def read(folder: Path, name: str, rows: list[dict[str, Any]]) -> tuple[str, list[Row | Reject]]:
    """The shape that rows are read as, and what is made of them."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    source = open_source(str(path))
    return source.format, list(source.rows())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_means_what_it_says_or_is_refused_for_its_reason(tmp_path: Path, name: str) -> None:
    _, rows = read(tmp_path, name, LAYOUTS[name])
    if name in REJECTED:
        assert [row.reason for row in rows if isinstance(row, Reject)] == [REJECTED[name]]
        return
    assert all(isinstance(row, Row) for row in rows), rows
    first = rows[0]
    assert isinstance(first, Row)
    said = " ".join(message.content for message in first.messages)
    assert ASKED in said or name in ("summarize_comparisons",)
    assert not any(mark in said for mark in ("Human:", "User:", "<|", "INST", "{"))
    if name in WITH_SYSTEM:
        assert first.messages[0] == Message("system", "Answer like a sailor.")
    texts = [first.answers[position].text for position in first.order]
    if name in TIED | ONE_SCORED_ANSWER:
        assert texts == []
    elif first.verdict is not None:
        assert (GOOD in texts[0], first.verdict) == (True, True)
    else:
        assert GOOD in texts[0]
        assert BAD in texts[-1]


def test_layouts_that_ask_the_same_have_one_query(tmp_path: Path) -> None:
    readings = {name: read(tmp_path, name, rows)[1][0] for name, rows in LAYOUTS.items() if name not in REJECTED}
    queries = {name: row.messages for name, row in readings.items() if isinstance(row, Row)}
    plain = {name for name, messages in queries.items() if messages == (Message("user", ASKED),)}
    with_system = {name for name, messages in queries.items() if len(messages) == 2}
    others = set(queries) - plain - with_system
    assert with_system == WITH_SYSTEM - others
    assert others == {
        "capybara_dpo",
        "hh_one_newline",
        "hh_stripped_multi",
        "llamafactory_alpaca_pref_system_history",
        "ms_swift_query_response",
        "step_dpo",
        "summarize_comparisons",
    }


def test_a_tree_gives_a_row_for_every_prompt_with_several_answers(tmp_path: Path) -> None:
    _, rows = read(tmp_path, "tree", LAYOUTS["oasst_tree"])
    first, second = (row for row in rows if isinstance(row, Row))
    assert [first.place.row, second.place.row] == [0, 1]
    assert [message.content for message in second.messages] == [ASKED, "The Rhine.", "And another?"]
    assert [second.answers[position].text for position in second.order] == ["The Loire.", "The Congo."]


def test_the_files_of_the_field_that_lie_beside_the_checkout_are_all_in_the_table(shared_data: Path) -> None:
    folder = shared_data.parent / "cases" / "formats"
    if not folder.is_dir():
        pytest.skip("shared/cases is not beside this checkout")
    for file in sorted(folder.glob("*.jsonl")):
        assert file.stem in LAYOUTS
        rows = list(open_source(str(file)).rows())
        assert [row.reason for row in rows if isinstance(row, Reject)][:1] == [
            reason for name, reason in REJECTED.items() if name == file.stem
        ], file.name


def test_every_shape_has_a_layout_that_shows_it(tmp_path: Path) -> None:
    shown = {read(tmp_path, name, rows)[0] for name, rows in LAYOUTS.items()}
    assert {shape.name for shape in SHAPES} - shown == set()


def test_the_documentation_shows_every_layout_as_it_is_read() -> None:
    assert PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0] == table()


def table() -> str:
    """The table of the documentation."""
    lines = ["| layout | columns | read as | what is read |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in sorted(LAYOUTS.items()):
            columns = ", ".join(f"`{column}`" for column in rows[0])
            lines.append(f"| {name} | {columns} | {' | '.join(_reading(Path(folder), name, rows))} |")
    return "\n".join(lines) + "\n"


def _reading(folder: Path, name: str, rows: list[dict[str, Any]]) -> tuple[str, str]:
    try:
        shape, understood = read(folder, name, rows)
    except InputError as error:
        return "-", f"refused: {str(error).splitlines()[0]}"
    return shape, "; ".join(map(_cell, understood))


def _cell(row: Row | Reject) -> str:
    if isinstance(row, Reject):
        return f"rejected: `{row.reason}`, {row.detail}".replace("|", "\\|")
    turns = " / ".join(f"{message.role[0].upper()}: {_short(message.content)}" for message in row.messages)
    return f"{turns} → {_said(row)}"


def _said(row: Row) -> str:
    answers = [_short(answer.text) for answer in row.answers]
    if row.verdict is not None:
        return f"{answers[0]} is {'good' if row.verdict else 'not good'}"
    if not row.order:
        rewards = "; ".join(f"{text} {answer.reward}" for text, answer in zip(answers, row.answers, strict=True))
        return f"no verdict ({rewards})"
    ordered = " > ".join(answers[position] for position in row.order)
    rest = [text for position, text in enumerate(answers) if position not in row.order]
    return f"{ordered} (beside {', '.join(rest)})" if rest else ordered


def _short(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    front, back = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(front + BEGIN + table() + END + back, encoding="utf-8")
