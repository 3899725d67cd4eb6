"""Commands of `neat-data` that are killed at chosen moments."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = "OUT"  # in a command: the folder that each run is given
# Reads lines of `point signal out`: each time, a forked child runs the command and is sent the signal before that step
# on the disk.
# Forking from a process that has imported everything and run nothing makes a hundred kills affordable.
DYING = """
import gc, os, signal, sys
import polars
from neat_data.scoring import compact, rescore, score
from neat_data.rounds import expand
from neat_data.analysis import stats
from neat_data import progress
from neat_data.cli import app
from neat_data.models.reward_models import function
from neat_data.report import card
from neat_data.store import dataset

if sys.argv[1] == "expand":
    from neat_data.models.samplers import transformers
    from transformers.models.llama import modeling_llama

gc.freeze()

def dying(call):
    def run(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), sent)
        return call(*arguments, **named)
    return run

for line in sys.stdin:
    point, sent, out = line.split()
    child = os.fork()
    if child == 0:
        left, sent = int(point), int(sent)
        for name in ("fsync", "replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        app([out if argument == "OUT" else argument for argument in sys.argv[1:]] + ["--quiet"])
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Killer:
    """`neat-data COMMAND`, again and again, killed at chosen points; `OUT` in it stands for each run's folder."""

    def __init__(self, *command: object) -> None:
        started = [sys.executable, "-c", DYING, *map(str, command)]
        self._process = subprocess.Popen(started, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, out: Path, point: int = 0, sent: signal.Signals = signal.SIGKILL) -> int:
        """The exit status of a run on `out` that is sent a signal before its `point`th step on the disk (0: never)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{point} {sent.value} {out}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` by its name there."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
