"""Worker processes: every shard is made once, a dead worker's shard is tried again, an error comes through."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from neat_data.errors import RunError
from neat_data.scoring.workers import run_in_processes

# In a file of its own, so that the worker processes can import it.
WORK = """
import os, signal, threading, time
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

def die_telling(folder, shard, advance):
    mark = Path(folder, str(shard))
    if shard == 0 and not mark.exists():
        mark.touch()
        threading.Thread(target=lambda: [advance(0, os.getpid()) for _ in iter(int, 1)], daemon=True).start()
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return shard

def make_dying_telling(folder, device):
    return partial(die_telling, folder)

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


def test_a_worker_that_dies_while_it_tells_of_progress_holds_nobody_up(work: ModuleType, tmp_path: Path) -> None:
    """It dies inside a write that waits for room, since nobody hears it before it is dead."""
    results: dict[int, object] = {}

    def hear(_: int, pid: int) -> None:
        while pid and _lives(pid):
            time.sleep(0.01)

    def make() -> None:
        dying = partial(work.make_dying_telling, str(tmp_path))
        run_in_processes(range(2), dying, ["a", "b"], advance=hear, done=results.__setitem__, warn=lambda _: None)

    made = threading.Thread(target=make, daemon=True)
    made.start()
    made.join(120)
    assert not made.is_alive()
    assert results == {0: 0, 1: 1}


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
