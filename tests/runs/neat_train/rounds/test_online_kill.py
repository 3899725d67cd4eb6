"""A run with online rounds that is killed and goes on leaves the same bytes as one that was left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from neat_data.store.verify import verify
from tests.support.killing import ROOT, contents
from tests.support.online import scored_dataset

# Reads lines of `point into dataset run`: each time, a forked child trains four steps with two checkpoints, and is
# killed before that step on the disk (0: never). Models are loaded once, and nothing has run threads before a fork.
DYING = """
import gc, json, os, signal, sys
from pathlib import Path
import polars
from neat_data.analysis import stats
from neat_data.report import card
from neat_train.rounds.block_files import BlockFiles
from tests.support.online import Run, settings_of

run = Run.of(Path("none"), Path("none"))
run.rounds = 1
gc.freeze()

def dying(call):
    def counted(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return counted

def noting(call):
    def noted(files, part, candidates, metadata):
        call(files, part, candidates, metadata)
        with open(f"{run.folder}.sampled", "a") as file:
            file.write(f"{part.block} {len(candidates)}\\n")
    return noted

BlockFiles.put_samples = noting(BlockFiles.put_samples)
for line in sys.stdin:
    point, into, dataset, folder = line.split()
    child = os.fork()
    if child == 0:
        left, run.dataset, run.folder = int(point), Path(dataset), Path(folder)
        run.settings = settings_of(rounds={"into": into, "queries": 3})
        for name in ("fsync", "replace", "unlink", "mkdir", "rmdir", "link"):
            setattr(os, name, dying(getattr(os, name)))
        run.train(4, 2)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Killer:
    """Four steps of training with online rounds, killed at chosen points."""

    def __init__(self) -> None:
        started = [sys.executable, "-c", DYING]
        self._process = subprocess.Popen(started, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, into: str, dataset: Path, folder: Path, point: int = 0) -> int:
        """The exit status of a run that is killed before its `point`th step on the disk (0: never)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{point} {into} {dataset} {folder}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_dataset(tmp_path_factory.mktemp("scored"))


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with Killer() as started:
        yield started


MANY = [pytest.param("run", 11, marks=pytest.mark.slow), pytest.param("dataset", 31, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("into", "stride"), [("run", 61), *MANY])
def test_killed_between_steps_on_the_disk(scored: Path, killer: Killer, tmp_path: Path, into: str, stride: int) -> None:
    def life(name: str, point: int = 0) -> int:
        dataset = tmp_path / name / "d"
        if not dataset.exists():
            shutil.copytree(scored, dataset)
        return killer.run(into, dataset, tmp_path / name / "run", point)

    assert life("undisturbed") == 0
    expected = contents(tmp_path / "undisturbed")
    grown = "run/dataset" if into == "run" else "d"
    assert f"{grown}/round-0002/00000.arrow" in expected
    assert [name for name in expected if name.startswith("run/online")] == ["run/online/begun.json"]
    assert verify(tmp_path / "undisturbed" / grown).findings == []

    point, status, lives = 0, -9, 0
    while status == -9:  # one run lives through all of the kills
        point, lives = point + stride, lives + 1
        status = life("killed", point)
    assert status == 0
    assert lives > 1
    assert _sampled_once(tmp_path / "killed")
    assert contents(tmp_path / "killed") == expected

    point, status = 0, -9
    while status == -9:  # and fresh ones, each killed once
        point += 2 * stride + 5
        status = life(f"fresh-{point}", point)
        assert life(f"fresh-{point}") == 0
        assert contents(tmp_path / f"fresh-{point}") == expected
    assert status == 0


def _sampled_once(folder: Path) -> bool:
    """Whether the samples of every block were committed once, over all lives."""
    note = folder / "run.sampled"
    counts = Counter(line.split()[0] for line in note.read_text().splitlines())
    return set(counts.values()) == {1}
