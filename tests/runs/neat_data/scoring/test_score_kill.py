"""A scoring run that is killed and resumed leaves the same bytes as one that was left alone."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.killing import OUT, ROOT, Killer, contents

LENGTH = "def length(dialogues):\n    return [-len(dialogue[-1]['content']) for dialogue in dialogues]\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows with rewards, some of which cannot be used and some of which ask the same again."""
    path = tmp_path_factory.mktemp("source") / "scored.jsonl"
    lines = [
        json.dumps({"prompt": f"question {n % 33}", "responses": [f"yes {n}", f"no {n}"], "rewards": [n / 7, -n / 3]})
        for n in range(38)
    ]
    path.write_text("\n".join([*lines[:20], "not JSON", *lines[20:], '{"prompt": null}']))
    return path


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_between_steps_on_the_disk(source: Path, tmp_path: Path, stride: int) -> None:
    with Killer("score", source, "--rewards", "given", "--shard-rows", 16, "--out", OUT) as killer:
        undisturbed = tmp_path / "undisturbed"
        assert killer.run(undisturbed) == 0
        expected = contents(undisturbed)
        assert "round-0000/00002.arrow" in expected
        assert "rejects/00001.jsonl" in expected
        assert not any(name.startswith(".plan") for name in expected)

        point, status = 0, -signal.SIGKILL
        killed = tmp_path / "killed"  # lives through all of the kills, each later than the last
        while status == -signal.SIGKILL:
            point += stride
            status = killer.run(killed, point)
        assert status == 0
        assert point > 5
        assert contents(killed) == expected

        point, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:  # and fresh folders, each killed once
            point += 3 * stride
            fresh = tmp_path / f"fresh-{point}"
            status = killer.run(fresh, point)
            assert killer.run(fresh) == 0
            assert contents(fresh) == expected
        assert status == 0
        assert point > 20


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A reward model as the command line takes it: a function, which loads no torch, or a classifier."""
    if request.param == "classifier":
        return str(request.getfixturevalue("tiny_classifier"))
    (tmp_path / "length.py").write_text(LENGTH)
    return f"{tmp_path / 'length.py'}:length"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["function", "classifier"], indirect=True)
def test_a_run_with_a_model_is_resumed_by_two_workers(source: Path, model: str, tmp_path: Path) -> None:
    options = (source, "--reward-model", model, "--shard-rows", 16)
    with Killer("score", *options, "--out", OUT) as killer:
        assert killer.run(tmp_path / "undisturbed") == 0
        points = itertools.count(40, 8)  # until the first shard is there, whatever a model does before
        while not list((tmp_path / "killed").glob("round-0000/*.arrow")):
            assert killer.run(tmp_path / "killed", next(points)) == -signal.SIGKILL
    command = [sys.executable, "-m", "neat_data", "score", *map(str, options), "--out", str(tmp_path / "killed")]
    subprocess.run([*command, "--workers", "2", "--quiet"], cwd=ROOT, check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
