"""A verb that is asked to end cleans up what it was writing, however it is asked."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

WRITER = """
import os, signal, sys
from pathlib import Path
from typing import Annotated
import typer
from neat_data.cli.command import verb
from neat_data.options.option import Argument
from neat_data.store.atomic import write_atomically

def write(folder: Annotated[Path, Argument("")]) -> None:
    def half(file):
        file.write(b"half")
        os.kill(os.getpid(), int(sys.argv[2]))
        signal.sigtimedwait([], 60)
    write_atomically(folder / "file", half)

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(verb(write))
# set either way, as who runs the tests may ignore hang-ups
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[3:] == ["nohup"] else signal.SIG_DFL)
app([sys.argv[1]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", WRITER, tmp_path, str(int(number))], capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert done.stderr.startswith("error: stopped. What was committed stays")
    assert list(tmp_path.iterdir()) == []


def test_what_ignores_hang_ups_goes_on(tmp_path: Path) -> None:
    writer = WRITER.replace("        signal.sigtimedwait([], 60)\n", "")
    arguments = [tmp_path, str(int(signal.SIGHUP)), "nohup"]
    done = subprocess.run([sys.executable, "-c", writer, *arguments], capture_output=True, text=True)
    assert (done.returncode, (tmp_path / "file").read_bytes()) == (0, b"half")
