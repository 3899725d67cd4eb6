"""Verdicts out to Label Studio and Argilla and back: nothing is lost, nothing counts twice, what is wrong is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import neat_data
from neat_data.cli import app
from neat_data.errors import InputError
from neat_data.review.exchange.files import read, write
from neat_data.review.tasks import Tasks
from neat_data.store.reviews import Event, standing
from tests.support.reviewing import HOSTILE, reviewed, say

TOOLS = ["label-studio", "argilla"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two raters with everything that can be said of a response."""
    path = reviewed(tmp_path / "data", records=2, text=HOSTILE)
    first, second = list(Tasks.choose(neat_data.open(path)).query_of)[:2]
    say(
        path,
        "ann",
        Event("1", first, "drop", scale=1, labels=("rude", "made up"), note=HOSTILE),
        Event("2", second, "edit", text="Better."),
    )
    say(path, "bob", Event("1", first, "keep", scale=5), Event("2", second, "off_prompt"))
    return path


def _said(path: Path) -> dict[str, dict[str, tuple[Any, ...]]]:
    return {
        rater: {s: (e.verdict, e.text, e.scale, e.labels, e.note) for s, e in standing(events).items()}
        for rater, events in neat_data.open(path).reviews.items()
    }


@pytest.mark.parametrize("tool", TOOLS)
def test_what_goes_out_comes_back_into_another_copy_the_same(folder: Path, tmp_path: Path, tool: Any):
    file, copy = tmp_path / "out.json", reviewed(tmp_path / "copy", records=2, text=HOSTILE)
    assert write(Tasks.choose(neat_data.open(folder)), tool, file) == 4
    taken = read(neat_data.open(copy), tool, file)
    assert (taken.read, taken.written, taken.unknown) == (4, {"ann": 2, "bob": 2}, 0)
    assert _said(copy) == _said(folder)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_there_is_not_written_again(folder: Path, tmp_path: Path, tool: Any):
    file = tmp_path / "out.json"
    write(Tasks.choose(neat_data.open(folder)), tool, file)
    before = {path.name: path.read_bytes() for path in (folder / "reviews").iterdir()}
    assert read(neat_data.open(folder), tool, file).written == {}
    assert {path.name: path.read_bytes() for path in (folder / "reviews").iterdir()} == before


def test_a_task_of_label_studio_has_the_documented_shape(folder: Path, tmp_path: Path):
    file = tmp_path / "tasks.json"
    write(Tasks.choose(neat_data.open(folder)), "label-studio", file)
    task = next(task for task in json.loads(file.read_text()) if task["annotations"])
    assert set(task["data"]) == {"query_id", "response_id", "dialogue", "response"}
    results = {result["from_name"]: result for result in task["annotations"][0]["result"]}
    assert results["verdict"]["type"] == "choices"
    assert results["scale"]["value"] == {"rating": 1}
    interface = (tmp_path / "tasks.json.xml").read_text()
    assert all(f'name="{name}"' in interface for name in results)


def test_what_label_studio_exports_after_people_worked_is_read(folder: Path, tmp_path: Path):
    copy, file = reviewed(tmp_path / "copy", records=2, text=HOSTILE), tmp_path / "export.json"
    response = next(iter(Tasks.choose(neat_data.open(copy)).query_of))
    choice = {"from_name": "verdict", "to_name": "response", "type": "choices", "value": {"choices": ["drop"]}}
    annotations = [
        {"id": 7, "completed_by": 3, "was_cancelled": False, "result": [choice]},
        {"id": 8, "completed_by": {"id": 4, "email": "cy@x.org"}, "was_cancelled": False, "result": [choice]},
        {"id": 9, "completed_by": 5, "was_cancelled": True, "result": []},
    ]
    file.write_text(json.dumps([{"id": 1, "data": {"response_id": response}, "annotations": annotations}]))
    assert read(neat_data.open(copy), "label-studio", file).written == {"user-3": 1, "cy_x.org": 1}


def test_a_record_of_argilla_has_the_documented_shape(folder: Path, tmp_path: Path):
    file = tmp_path / "records.json"
    write(Tasks.choose(neat_data.open(folder)), "argilla", file)
    record = next(record for record in json.loads(file.read_text()) if record["responses"])
    assert set(record) == {"id", "fields", "metadata", "suggestions", "responses", "vectors", "_server_id"}
    assert {answer["value"] for answer in record["responses"]["rater"]} == {"ann", "bob"}
    assert len({answer["user_id"] for answer in record["responses"]["verdict"]}) == 2


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{}", "no list of objects"),
        ("[1]", "no list of objects"),
        ("[{}]", "entry 1: is none of"),
        ('[{"id": "a", "data": 1, "responses": 1}]', "entry 1: is none of"),
    ],
)
def test_another_file_is_told_and_nothing_written(folder: Path, tmp_path: Path, tool: Any, content: str, message: str):
    file = tmp_path / "wrong.json"
    file.write_text(content)
    before = _said(folder)
    with pytest.raises(InputError, match=message):
        read(neat_data.open(folder), tool, file)
    assert _said(folder) == before


def _answers(**said: Any) -> dict[str, Any]:
    return {"id": "0" * 16, "responses": {name: [{"value": v, "user_id": "u"}] for name, v in said.items()}}


@pytest.mark.parametrize(
    "said",
    [
        {"verdict": "burn"},
        {"verdict": "worse"},
        {"verdict": "edit"},
        {"verdict": "keep", "scale": 9},
        {"verdict": "keep", "labels": [1]},
        {"verdict": "keep", "note": 1},
        {"verdict": "keep", "rater": "///"},
    ],
)
def test_an_answer_that_is_no_verdict_is_told(folder: Path, tmp_path: Path, said: dict[str, Any]):
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps([_answers(**said)]))
    before = _said(folder)
    if said.get("rater"):  # spelled in letters that may name a file
        assert read(neat_data.open(folder), "argilla", file).unknown == 1
        return
    with pytest.raises(InputError, match="entry 1"):
        read(neat_data.open(folder), "argilla", file)
    assert _said(folder) == before


def test_a_response_that_is_not_in_the_dataset_is_counted_and_left_out(folder: Path, tmp_path: Path):
    file = tmp_path / "other.json"
    file.write_text(json.dumps([_answers(verdict="drop", rater="ann")]))
    taken = read(neat_data.open(folder), "argilla", file)
    assert (taken.read, taken.written, taken.unknown) == (1, {}, 1)


def test_pairs_and_places_in_a_dataset_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match="mode pairs"):
        write(Tasks.choose(neat_data.open(folder), mode="pairs"), "argilla", tmp_path / "a.json")
    with pytest.raises(InputError, match="lies in the dataset"):
        write(Tasks.choose(neat_data.open(folder)), "argilla", folder / "a.json")


def test_the_command_takes_a_tool_and_a_file(folder: Path, tmp_path: Path):
    file = tmp_path / "out.json"
    given = CliRunner().invoke(app, ["review", str(folder), "--to", "argilla", str(file)])
    assert (given.exit_code, "4 responses" in given.output) == (0, True), given.output
    taken = CliRunner().invoke(app, ["review", str(folder), "--from", "argilla", str(file)])
    assert (taken.exit_code, "4 verdicts read" in taken.output) == (0, True), taken.output
    assert CliRunner().invoke(app, ["review", str(folder), "--to", "excel", str(file)]).exit_code == 2
