"""`compare DATASET`: the reward models that scored it, beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import neat_data as nd
from neat_train.cli import app
from neat_train.comparison.reward_models import compare_rewards

ROWS = [
    {"prompt": f"{n}?", "chosen": f"A fine answer {n}", "rejected": [f"No {n}", f"Never {n}!", "?"]} for n in range(8)
]


@pytest.fixture
def scored_twice(tmp_path: Path) -> Path:
    """Lists of four that one function scores by length, and another against it."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({**row, "chosen": [row["chosen"]]}) + "\n" for row in ROWS))
    (tmp_path / "rate.py").write_text(
        "def long(turns):\n    return [float(len(each[-1]['content'])) for each in turns]\n\n\n"
        "def short(turns):\n    return [-float(len(each[-1]['content'])) for each in turns]\n"
    )
    out = tmp_path / "data"
    nd.score(tmp_path / "rows.jsonl", out=out, reward_model=f"{tmp_path / 'rate.py'}:long", progress=False)
    nd.rescore(out, reward_model=f"{tmp_path / 'rate.py'}:short", name="short", progress=False)
    return out


def test_models_that_disagree_are_right_on_different_records(scored_twice: Path) -> None:
    found = compare_rewards(str(scored_twice))
    long, short = found.models
    assert (long.name, short.name, found.records) == ("rate.py:long", "short", 8)
    assert (long.accuracy.share, short.accuracy.share) == (1.0, 0.0)
    assert (long.best_of, short.best_of, long.best_of_records) == (1.0, 0.0, 8)
    assert found.agreement == {"rate.py:long, short": pytest.approx(-1.0)}


def test_the_command_prints_them(scored_twice: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["compare", str(scored_twice), "--markdown", str(tmp_path / "found.md")])
    assert shown.exit_code == 0, shown.output
    assert "rate.py:long" in shown.output
    assert "best of k" in (tmp_path / "found.md").read_text()
    told = CliRunner().invoke(app, ["compare", str(scored_twice), "--json"])
    assert json.loads(told.stdout)["models"][0]["best_of"] == 1.0
