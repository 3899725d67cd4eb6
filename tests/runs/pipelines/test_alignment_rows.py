"""The rows that are kept for training experiments."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pipelines.alignment_rows import IDS, alignment_rows, main
from pipelines.tiny_models.rows import to_pair
from pipelines.tiny_models.splits import read_ids

ROWS = "hh-rlhf-single-turn"


def source_lines(folder: Path) -> set[str]:
    return {
        line for file in folder.glob("*.jsonl.gz") for line in gzip.decompress(file.read_bytes()).decode().splitlines()
    }


def test_rows_are_the_sources_own_and_their_queries_those_of_the_set(shared_data: Path) -> None:
    rows = alignment_rows(shared_data / ROWS)
    ids = [to_pair("any", row["chosen"], row["rejected"]).query_id for row in rows]
    assert sorted(set(ids)) == read_ids(IDS)
    assert ids == sorted(ids)
    known = {json.dumps(json.loads(line), sort_keys=True) for line in source_lines(shared_data / ROWS)}
    assert {json.dumps(row, sort_keys=True) for row in rows} <= known
    assert len(rows) == 8000  # as the cards say


def test_a_folder_without_such_rows_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "no row of the alignment set" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
