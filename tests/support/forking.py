"""Functions of test modules that run in processes of their own, forked from one that has imported everything before.

Importing torch and transformers takes most of the time that a small training run takes; a fork has it for nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from neat_train.training.launch import reserved_port

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import gc, importlib, json, os, sys, traceback
import neat_train.fitting

gc.freeze()

def child(job, rank):
    if job["world"] > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["world"], "MASTER_PORT": job["port"]}
        os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    os.dup2(2, 1)
    try:
        sys.path.insert(0, job["folder"])
        getattr(importlib.import_module(job["module"]), job["function"])(*job["arguments"])
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

for line in sys.stdin:
    job = json.loads(line)
    children = []
    for rank in range(job["world"]):
        children.append(os.fork())
        if not children[-1]:
            child(job, rank)
    ends = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children]
    print(json.dumps(ends), flush=True)
"""


class Forks:
    """A process that runs functions of test modules in forks of itself; a context manager."""

    def __init__(self) -> None:
        started = [sys.executable, "-c", SERVER]
        self._process = subprocess.Popen(started, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, file: str, function: str, *arguments: object, world: int = 1) -> list[int]:
        """The exit codes of `world` processes that run `function(*arguments)` of a test module, given by its file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        where = {"folder": str(Path(file).parent), "module": Path(file).stem, "function": function}
        job = {**where, "arguments": [str(one) for one in arguments], "world": world, "port": reserved_port()}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
