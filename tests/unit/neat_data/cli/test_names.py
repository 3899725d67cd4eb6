"""Names that are no UTF-8, which a file system may hold, are refused in words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neat_data.cli import app

ROW = json.dumps({"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": 1.0, "score_rejected": 0.0}) + "\n"


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    return done.exit_code, done.output


@pytest.fixture
def odd(tmp_path: Path) -> str:
    """A name inside a folder that takes it; some file systems refuse such names."""
    name = os.fsdecode(b"so\xffurce.jsonl")
    try:
        (tmp_path / name).write_text(ROW)
    except OSError:
        pytest.skip("the file system takes names in UTF-8 only")
    return name


def test_a_file_whose_name_is_no_utf8_is_refused_by_name(tmp_path: Path, odd: str) -> None:
    status, output = run("score", tmp_path / odd, "--rewards", "given", "--out", tmp_path / "out")
    assert status == 2
    assert "this name is not UTF-8" in output


def test_so_is_a_folder(tmp_path: Path, odd: str) -> None:
    (tmp_path / odd).rename(tmp_path / "a.jsonl")
    out = tmp_path / os.fsdecode(b"ou\xfft")
    out.mkdir()
    score = ["score", tmp_path / "a.jsonl", "--rewards", "given", "--out", out]
    for command in (score, ["stats", out], ["rounds", out, "--drop-round", 1]):
        status, output = run(*command)
        assert status == 2
        assert "this name is not UTF-8" in output
