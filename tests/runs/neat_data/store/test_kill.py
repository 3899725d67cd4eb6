"""A writer that dies at any line of the store's code loses nothing that was committed and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_writer.py")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: what a kill leaves is in the system's cache, and flushing takes time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


EVERY = [pytest.param("kill", 1, marks=pytest.mark.slow), pytest.param("interrupt", 5, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("how", "step"), [("kill", 17), ("interrupt", 29), *EVERY])
def test_stopped_at_any_line_and_resumed_the_folder_equals_an_undisturbed_one(folder: Path, how: str, step: int):
    run = subprocess.run([sys.executable, SCRIPT, folder, how, str(step)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 300 // step
