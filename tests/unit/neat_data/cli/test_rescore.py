"""`rescore` and `compact` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neat_data.cli import app


@pytest.fixture
def dataset(made_dataset, record_of) -> str:
    return made_dataset([record_of(f"q{n}", {"yes": 1.0, "no no": 0.0}, [("yes", "no no")]) for n in range(3)]).path


@pytest.fixture
def model(tmp_path: Path) -> str:
    file = tmp_path / "long.py"
    file.write_text("def long(dialogues):\n    return [len(d[-1]['content']) for d in dialogues]\n")
    return f"{file}:long"


def _run(*command: object) -> Result:
    return CliRunner().invoke(app, list(map(str, command)))


def test_rescore_says_what_it_did_and_what_comes_next(dataset: str, model: str):
    command = ("rescore", dataset, "--reward-model", model, "--name", "long")
    first, second = _run(*command), _run(*command)
    assert first.exit_code == second.exit_code == 0, first.output
    assert "scores/long: 6 responses, 6 scored now." in first.stdout
    assert "--rank-by long" in first.stdout
    assert "complete already" in second.stdout
    document = json.loads(_run(*command, "--json").stdout)
    assert document == {"dataset": dataset, "name": "long", "responses": 6, "scored_now": 0, "refused": {}}
    assert _run(*command, "--quiet").stdout == ""


def test_jobs_say_what_they_made_and_what_comes_next(dataset: str, model: str):
    command = ("rescore", dataset, "--reward-model", model, "--name", "long")
    first = _run(*command, "--shards", "0-9")
    assert first.exit_code == 0, first.output
    assert "1 shards scored, 0 were there; the dataset has 3 rows in 1 shards." in first.stdout
    assert "the same command with --phase finish" in first.stdout
    assert json.loads(_run(*command, "--shards", "0", "--json").stdout)["before"] == 1
    assert "scores/long: 6 responses, 6 scored now." in _run(*command, "--phase", "finish").stdout
    assert "complete already" in _run(*command, "--phase", "finish").stdout


def test_compact_says_what_it_did(dataset: str, model: str, tmp_path: Path):
    first = _run("compact", dataset, "--out", tmp_path / "folded", "--compression", "zstd")
    assert first.exit_code == 0, first.output
    assert "3 records with 6 responses; 0 rounds folded in" in first.stdout
    again = _run("compact", dataset, "--out", tmp_path / "folded", "--compression", "zstd", "--json")
    document = json.loads(again.stdout)
    assert (document["already"], document["records"], document["folded_rounds"], document["dropped_responses"]) == (
        True,
        3,
        0,
        0,
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["rescore", "DATASET", "--reward-model", "MODEL", "--name", "mean"], "plain word"),
        (["rescore", "nowhere", "--reward-model", "MODEL", "--name", "long"], "no dataset folder"),
        (["rescore", "DATASET", "--reward-model", "MODEL", "--name", "long", "--workers", "0"], "--workers"),
        (["rescore", "DATASET", "--reward-model", "MODEL", "--name", "long", "--chat-template", "hh"], "chat-template"),
        (
            ["rescore", "DATASET", "--reward-model", "MODEL", "--name", "long", "--shards", "0", "--phase", "finish"],
            "Leave --phase or --shards out",
        ),
        (["rescore", "DATASET", "--reward-model", "nothing.py:here", "--name", "long"], "nothing.py"),
        (["compact", "DATASET", "--out", "DATASET"], "another --out"),
        (["compact", "nowhere", "--out", "OUT"], "no dataset folder"),
        (["show", "DATASET", "--rank-by", "mean:long"], "there are no scores 'long'"),
    ],
)
def test_bad_usage_is_told_in_a_line_or_two(dataset: str, model: str, tmp_path: Path, command: list[str], words: str):
    places = {"DATASET": dataset, "MODEL": model, "OUT": str(tmp_path / "out")}
    run = _run(*(places.get(part, part) for part in command))
    assert run.exit_code == 2
    assert words.lower() in run.stderr.lower().replace("_", "-")
    assert len(run.stderr.strip().splitlines()) <= 3
    assert not (Path(dataset) / "scores").exists()
