"""A scoring run that is killed and resumed leaves the same bytes as one that was left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Reads lines of `point out`: each time, a forked child runs the command and is killed before that step on the disk.
# Forking from a process that has imported everything and run nothing makes a hundred kills affordable.
DYING = """
import os, signal, sys
import polars
from neat_data import score, stats, watch
from neat_data.cli import app
from neat_data.report import card
from neat_data.store import dataset

def dying(call):
    def run(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return run

for line in sys.stdin:
    point, out = line.split()
    child = os.fork()
    if child == 0:
        left = int(point)
        for name in ("fsync", "replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        app(["score", *sys.argv[1:], "--out", out, "--quiet"])
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Killer:
    """`neat-data score OPTIONS`, again and again, killed at chosen points."""

    def __init__(self, *options: object) -> None:
        command = [sys.executable, "-c", DYING, *map(str, options)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, out: Path, point: int = 0) -> int:
        """The exit status of a run into `out` that is killed before its `point`th step on the disk (0: never)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{point} {out}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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


def test_killed_at_every_step_on_the_disk(source: Path, tmp_path: Path) -> None:
    with Killer(source, "--rewards", "given", "--shard-rows", 16) as killer:
        undisturbed = tmp_path / "undisturbed"
        assert killer.run(undisturbed) == 0
        expected = contents(undisturbed)
        assert "round-0000/00002.arrow" in expected
        assert "rejects/00001.jsonl" in expected
        assert not any(name.startswith(".plan") for name in expected)

        point, status = 0, -signal.SIGKILL
        killed = tmp_path / "killed"  # lives through all of the kills, each a step later than the last
        while status == -signal.SIGKILL:
            point += 1
            status = killer.run(killed, point)
        assert status == 0
        assert point > 5
        assert contents(killed) == expected

        point, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:  # and fresh folders, each killed once
            point += 3
            fresh = tmp_path / f"fresh-{point}"
            status = killer.run(fresh, point)
            assert killer.run(fresh) == 0
            assert contents(fresh) == expected
        assert status == 0
        assert point > 20


def test_a_run_with_a_model_is_resumed_by_two_workers(source: Path, tiny_classifier: Path, tmp_path: Path) -> None:
    options = (source, "--reward-model", tiny_classifier, "--shard-rows", 16)
    with Killer(*options) as killer:
        assert killer.run(tmp_path / "undisturbed") == 0
        assert killer.run(tmp_path / "killed", 40) == -signal.SIGKILL
    assert len(list((tmp_path / "killed").glob("round-0000/*.arrow"))) == 1
    command = [sys.executable, "-m", "neat_data", "score", *map(str, options), "--out", str(tmp_path / "killed")]
    subprocess.run([*command, "--workers", "2", "--quiet"], cwd=ROOT, check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
