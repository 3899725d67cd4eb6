"""Worker processes: every shard is made once, a dead worker's shard is tried again, an error comes through."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from neat_data.errors import RunError
from neat_data.scoring.workers import run_in_processes

# In a file of its own, so that the worker processes can import it.
WORK = """
import os, signal
from functools import partial
from pathlib import Path

from neat_data.errors import InputError

def square(device, shard, advance):
    advance(1, shard)
    return device, shard * shard

def make_square(device):
    return partial(square, device)

def die_once(folder, shard, advance):
    mark = Path(folder, str(shard))
    if shard == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "made", shard

def make_dying_once(folder, device):
    return partial(die_once, folder)

def make_dying_always(device):
    os.kill(os.getpid(), signal.SIGKILL)

def make_refusing(device):
    raise InputError("no such model")
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("work")
    (folder / "work_for_workers.py").write_text(WORK)
    sys.path.insert(0, str(folder))  # spawned processes inherit it
    return importlib.import_module("work_for_workers")


def run(
    shards: range, make: Callable[[str], object], devices: list[str]
) -> tuple[dict[int, object], list[tuple[int, int]], list[str]]:
    results: dict[int, object] = {}
    steps: list[tuple[int, int]] = []
    warnings: list[str] = []
    run_in_processes(
        shards,
        make,  # type: ignore[arg-type]
        devices,
        advance=lambda rows, tokens: steps.append((rows, tokens)),
        done=results.__setitem__,
        warn=warnings.append,
    )
    return results, steps, warnings


def test_every_shard_is_made_and_progress_arrives(work: ModuleType) -> None:
    results, steps, warnings = run(range(7), work.make_square, ["a", "b"])
    assert {shard: value for shard, (_, value) in results.items()} == {n: n * n for n in range(7)}  # type: ignore[misc]
    assert {device for device, _ in results.values()} <= {"a", "b"}  # type: ignore[misc]
    assert sorted(steps) == [(1, n) for n in range(7)]
    assert warnings == []


def test_a_dead_workers_shard_is_tried_again(work: ModuleType, tmp_path: Path) -> None:
    results, _, warnings = run(range(5), partial(work.make_dying_once, str(tmp_path)), ["cpu"])
    assert sorted(results) == [0, 1, 2, 3, 4]
    assert len(warnings) == 1
    assert "tried again" in warnings[0]


def test_workers_that_always_die_are_given_up(work: ModuleType) -> None:
    with pytest.raises(RunError, match="died 3 times"):
        run(range(2), work.make_dying_always, ["cpu"])


def test_a_workers_own_error_comes_through(work: ModuleType) -> None:
    with pytest.raises(Exception, match="no such model"):
        run(range(2), work.make_refusing, ["cpu"])
