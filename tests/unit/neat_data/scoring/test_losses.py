"""What `score` says of rows that it lost and columns that it did not read, on the command line and in the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from neat_data.cli import app
from neat_data.errors import InputError
from neat_data.progress import Silent
from neat_data.scoring.request import ScoreRequest
from neat_data.scoring.score import score as neat_score

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1}


def score(folder: Path, rows: list[dict[str, Any]], *options: str) -> Result:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["score", str(folder / "rows.jsonl"), "--rewards", "given", "--out", str(folder / "made"), *options]
    return CliRunner().invoke(app, command)


def test_a_source_of_which_nothing_can_be_read_is_an_error_that_shows_the_first_row(tmp_path: Path) -> None:
    broken = {**PAIR, "chosen": [{"role": "assistant"}]}
    result = score(tmp_path, [{**PAIR, "chosen": None}, broken, broken])
    assert result.exit_code == 2
    assert "none of its 3 rows can be used (bad_message 2, not_text 1)" in result.stderr
    assert "The first, row 1 of rows.jsonl, is bad_message: `chosen[0]` has neither role" in result.stderr
    lines = (tmp_path / "made" / "rejects" / "00000.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["not_text", "bad_message", "bad_message"]


def test_a_mended_source_goes_into_the_folder_of_the_one_that_failed(tmp_path: Path) -> None:
    score(tmp_path, [{**PAIR, "chosen": None}])
    result = score(tmp_path, [PAIR])
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "made" / "rejects").exists()


def test_scoring_that_loses_every_row_is_an_error_however_often_it_is_asked_for(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 2}
    for _ in range(2):
        result = score(tmp_path, [row])
        assert result.exit_code == 2
        assert "none of the 1 rows is left (no_reward 1)" in result.stderr
        assert "score_chosen and score_rejected" in result.stderr
        assert "next:" not in result.output


def test_many_rejects_are_a_warning_with_the_commonest_reason_and_its_first_row(tmp_path: Path) -> None:
    result = score(tmp_path, [PAIR, {**PAIR, "prompt": "r", "rejected": " "}])
    assert result.exit_code == 0
    summary = " ".join(result.stdout.split())
    assert "warning: 50 % of the rows were rejected, most for empty_response." in summary
    assert "row 1 of rows.jsonl, is empty_response: `rejected`" in summary
    kept = [{**PAIR, "prompt": str(number)} for number in range(4)]
    fewer = CliRunner().invoke(
        app, ["score", str(written(tmp_path, [*kept, {**PAIR, "chosen": ""}])), *given(tmp_path)]
    )
    assert "warning" not in fewer.stdout


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "more.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def given(folder: Path) -> list[str]:
    return ["--rewards", "given", "--out", str(folder / "more")]


class _Changing(Silent):
    """Adds a row to a file when rows begin to be read: behind the hash, in front of the rows."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def phase(self, name: str, total: int | None, unit: str = "") -> None:
        if name == "reading":
            with self.file.open("a") as file:
                file.write(json.dumps({**PAIR, "prompt": "late"}) + "\n")


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path, [PAIR, {**PAIR, "prompt": "r"}])
    before = source.read_bytes()
    request = ScoreRequest(str(source), tmp_path / "made", None)
    with pytest.raises(InputError, match=r"more\.jsonl: changed while it was read\.\nRun the same command again"):
        neat_score(request, _Changing(source))
    assert neat_score(request).counts["source_rows"] == 3
    source.write_bytes(before)
    other = ScoreRequest(str(source), tmp_path / "limited", None, limit=1)
    with pytest.raises(InputError, match="changed while it was read"):
        neat_score(other, _Changing(source))


def test_columns_that_go_to_meta_and_scores_that_contradict_are_told_once(tmp_path: Path) -> None:
    rows = [{**PAIR, "id": 1, "lang": "en"}, {**PAIR, "prompt": "r", "score_chosen": 0, "id": 2}]
    notes = json.loads(score(tmp_path, rows, "--json").stdout)["notes"]
    assert notes == [
        "kept in meta, where nothing reads them: id, lang",
        "1 rows: the source's own scores contradict its verdict, which counts",
    ]


def test_a_dry_run_shows_three_rows_and_writes_nothing(tmp_path: Path) -> None:
    rows = [
        {"ask": "Why?", "answers": [{"t": "\x1b[31ma"}, {"t": "b"}], "id": 1},
        {"ask": ""},
        {"ask": "x"},
        {"ask": "y"},
    ]
    path = written(tmp_path, rows)
    columns = "prompt=ask,chosen=answers.0.t,rejected=answers.1.t"
    result = CliRunner().invoke(app, ["score", str(path), "--dry-run", "--columns", columns])
    assert result.exit_code == 0, result.output
    assert "user: Why?" in result.stdout
    assert "-> \\x1b[31ma  [place 1]" in result.stdout
    assert "rejected, missing_column: `answers.0.t`" in result.stdout
    assert "row 3 of" not in result.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["more.jsonl"]


def test_columns_are_a_part_of_what_a_dataset_was_made_with(tmp_path: Path) -> None:
    row = {"ask": "q", "good": "a", "bad": "b", "score_chosen": 2, "score_rejected": 1}
    assert score(tmp_path, [row], "--columns", "prompt=ask,chosen=good,rejected=bad").exit_code == 0
    again = score(tmp_path, [row], "--columns", "prompt=ask,chosen=bad,rejected=good")
    assert again.exit_code == 2
    assert "columns" in again.stderr


def test_a_column_is_left_unread_by_name(tmp_path: Path) -> None:
    row = {**PAIR, "tools": [{"name": "f"}]}
    assert "has_tools" in score(tmp_path, [row]).stderr
    assert score(tmp_path, [row], "--ignore", "tools").exit_code == 0


@pytest.mark.parametrize("options", [["--columns", "prompt=a", "--format", "hh"], ["--columns", "prompt"]])
def test_a_mapping_that_cannot_be_meant_is_refused(tmp_path: Path, options: list[str]) -> None:
    result = score(tmp_path, [PAIR], *options)
    assert result.exit_code == 2
    assert "--columns" in result.stderr
