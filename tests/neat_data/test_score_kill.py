"""A scoring run that is killed and resumed leaves the same bytes as one that was left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
POINTS = ("fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")
DYING = f"""
import os, signal, sys
left = int(sys.argv.pop(1))
def dying(call):
    def run(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return run
for name in {POINTS}:
    setattr(os, name, dying(getattr(os, name)))
from neat_data.cli import main
main()
"""


def run_dying(point: int, *arguments: object) -> int:
    """`neat-data score …` in a process of its own that is killed before its `point`th step on the disk (0: never)."""
    command = [sys.executable, "-c", DYING, str(point), "score", *map(str, arguments), "--quiet"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode


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
    options = (source, "--rewards", "given", "--shard-rows", 16)
    undisturbed = tmp_path / "undisturbed"
    assert run_dying(0, *options, "--out", undisturbed) == 0
    expected = contents(undisturbed)
    assert "round-0000/00002.arrow" in expected
    assert "rejects/00001.jsonl" in expected
    assert not any(name.startswith(".plan") for name in expected)

    killed = tmp_path / "killed"  # one folder that lives through all of the kills, each a step later than the last
    point = 0
    while True:
        point += 1
        status = run_dying(point, *options, "--out", killed)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert point > 5
    assert contents(killed) == expected

    for point in range(1, 60, 4):  # and fresh folders, each killed once
        fresh = tmp_path / f"fresh-{point}"
        status = run_dying(point, *options, "--out", fresh)
        assert status in (0, -signal.SIGKILL)
        assert run_dying(0, *options, "--out", fresh) == 0
        assert contents(fresh) == expected
        if status == 0:
            break


def test_a_model_run_killed_between_shards_and_in_one_is_resumed(
    source: Path, tiny_classifier: Path, tmp_path: Path
) -> None:
    options = (source, "--reward-model", tiny_classifier, "--shard-rows", 16)
    assert run_dying(0, *options, "--out", tmp_path / "undisturbed") == 0
    killed = tmp_path / "killed"
    for point in (40, 5):
        assert run_dying(point, *options, "--out", killed) == -signal.SIGKILL
    assert run_dying(0, *options, "--out", killed, "--workers", "2") == 0
    assert contents(killed) == contents(tmp_path / "undisturbed")
