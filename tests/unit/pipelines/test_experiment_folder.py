"""The folder of an experiment: nobody goes on in it with other rows or settings, or beside another process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neat_data.errors import InputError
from pipelines.table2_small.folder import claimed, write_rows

ROWS = {"train.jsonl": "a\nb\n", "test/helpful/test.jsonl": "ü\n"}
SETTINGS = {"size": {"records": 2, "seeds": (1, 2)}}


def test_its_rows_and_what_it_is_are_written_and_found_again(tmp_path: Path) -> None:
    for _ in range(2):
        with claimed(tmp_path / "out", ROWS, SETTINGS):
            assert (tmp_path / "out" / "rows" / "test" / "helpful" / "test.jsonl").read_text() == "ü\n"
    document = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert document["settings"] == {"size": {"records": 2, "seeds": [1, 2]}}
    assert sorted(document["rows"]) == ["test/helpful/test.jsonl", "train.jsonl"]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ({**ROWS, "train.jsonl": "c\n"}, SETTINGS, r"\(other rows/train.jsonl\)"),
        (ROWS, {"size": {"records": 1, "seeds": (1, 2)}}, r"\(size.records: 2 -> 1\)"),
    ],
)
def test_another_experiment_is_refused_in_one_line_and_changes_nothing(
    tmp_path: Path, rows: dict[str, str], settings: dict, message: str
) -> None:
    with claimed(tmp_path, ROWS, SETTINGS):
        pass
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json*")}
    with pytest.raises(InputError, match=message) as caught, claimed(tmp_path, rows, settings):
        pass
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json*")} == before


def test_a_folder_that_says_nothing_of_itself_is_known_by_its_rows(tmp_path: Path) -> None:
    write_rows(ROWS, tmp_path / "rows")
    other = {**ROWS, "train.jsonl": ""}
    with pytest.raises(InputError, match=r"other rows/train\.jsonl"), claimed(tmp_path, other, SETTINGS):
        pass
    assert not (tmp_path / "experiment.json").exists()
    with claimed(tmp_path, ROWS, SETTINGS):
        assert (tmp_path / "experiment.json").is_file()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(InputError, match="another process is writing")
    with claimed(tmp_path, ROWS, SETTINGS), refused, claimed(tmp_path, ROWS, SETTINGS):
        pass
