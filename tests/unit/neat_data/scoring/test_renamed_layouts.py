"""Folders that were begun before a layout got a name of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neat_data.errors import InputError
from neat_data.progress import Silent
from neat_data.scoring.score import ScoreRequest, score

WHOLE = {
    "query": "a note that hh leaves in meta",
    "chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
    "rejected": "\n\nHuman: Hi\n\nAssistant: Go",
    "score_chosen": 2.0,
    "score_rejected": 1.0,
}


class Stopping(Silent):
    """Ctrl-C when scoring begins."""

    def phase(self, name: str, total: int | None, unit: str = "") -> None:
        if name == "scoring":
            raise KeyboardInterrupt


def _request(tmp_path: Path, *rows: dict, format: str = "auto") -> ScoreRequest:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ScoreRequest(str(source), tmp_path / "out", None, format=format, shard_rows=1)


def test_a_folder_goes_on_under_the_name_that_its_layout_had(tmp_path: Path) -> None:
    rows = [WHOLE, {**WHOLE, "chosen": WHOLE["chosen"] + " again"}]
    with pytest.raises(KeyboardInterrupt):
        score(_request(tmp_path, *rows, format="hh"), Stopping())
    went_on = score(_request(tmp_path, *rows))
    assert not went_on.already
    assert went_on.counts["source_rows"] == 2
    assert score(_request(tmp_path, *rows)).already


def test_a_layout_that_reads_a_row_otherwise_is_another_setting(tmp_path: Path) -> None:
    """As `hh` the query is no part of what is asked, where the sides are turns of their own it is."""
    other = {
        **WHOLE,
        "query": [
            {"role": "user", "content": "Before"},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": "Hi"},
        ],
    }
    score(_request(tmp_path, WHOLE, other, format="hh"))
    with pytest.raises(InputError, match=r"source\.format"):
        score(_request(tmp_path, WHOLE, other))
