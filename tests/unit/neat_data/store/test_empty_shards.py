"""A shard of whose rows none could be used is written all the same, and no reader stumbles over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import neat_data
from neat_data.cli import app
from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.review.look.index import build
from neat_data.review.tasks import Tasks
from neat_data.store.folder import DatasetFolder
from tests.support.growing import add_round


def _record(number: int) -> Record:
    messages = (Message("user", f"q{number}"),)
    ids = [response_id(query_id(messages), text) for text in ("good", "bad")]
    responses = tuple(
        Response(id, text, reward=reward) for id, text, reward in zip(ids, ("good", "bad"), (1.0, 0.0), strict=True)
    )
    return Record(query_id(messages), messages, responses, (Label("a.jsonl", None, "train", number, tuple(ids), None),))


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """Three shards, of which the first and the last hold nothing but rejects."""
    reject = {"name": "a.jsonl", "subset": None, "split": "train", "row": 9, "reason": "bad_json", "raw": "{"}
    with DatasetFolder.open(tmp_path / "holed", {"reward_model": {"model": "tiny"}}, versions={}) as folder:
        for number, records in enumerate(([], [_record(0), _record(1)], [])):
            refused = [] if records else [reject]
            summary = {"source_rows": len(records) + len(refused)}
            folder.record(0, folder.commit(0, number, to_table(records), refused, summary))
        folder.finish(0, {"source_rows": 4, "queries_cut": 0})
    return tmp_path / "holed"


def _json(*arguments: object) -> dict:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_reader_passes_over_them(holed: Path, tmp_path: Path) -> None:
    assert [record.messages[0].content for record in neat_data.open(holed)] == ["q0", "q1"]
    assert len(neat_data.open(holed).to_hf()) == 2
    assert neat_data.open(holed).scan().collect().height == 4
    assert _json("stats", holed, "--json")["counts"]["records"] == 2
    assert len(_json("show", holed, "--json")["records"]) == 2
    assert CliRunner().invoke(app, ["verify", str(holed)]).exit_code == 0
    export = ["export", str(holed), "--to", "trl-dpo", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, export).exit_code == 0


def test_pages_lead_to_the_shard_that_holds_a_record(holed: Path) -> None:
    opened = neat_data.open(holed)
    assert [build(opened).shard_of(row) for row in range(2)] == [(1, 0), (1, 1)]
    tasks = Tasks.choose(opened, polarities=["all"])
    assert [tasks.record(record.query_id, "ann")[0] for record in opened] == list(opened)


def test_rounds_grow_over_them(holed: Path) -> None:
    add_round(holed, {"q0": {"more": 2.0}})
    assert [len(record.responses) for record in neat_data.open(holed)] == [3, 2]
    assert CliRunner().invoke(app, ["verify", str(holed)]).exit_code == 0
