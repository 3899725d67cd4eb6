"""A process that has imported everything and run nothing, and forks: a command begins in no time, and may be hurt.

Reads a JSON line a request and answers each with one: `start` forks a child that runs a command, `wait` gives its exit
status, or that it stopped itself. A child told `step` looks at what Python does to files below `prefix`, and before
that step (from 1; 0 counts and does nothing) kills itself, stops itself or appends a line to a file; once, and the
file `token` says so.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_HANGS = 1800  # seconds: what takes longer, even on a busy machine, waits for something that does not come
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")


_MODULES = (
    "matplotlib.pyplot",
    "neat_data.cli.review",
    "neat_data.review.serve",
    "neat_data.rounds.expand",
    "neat_data.scoring.compact",
    "neat_data.scoring.rescore",
    "neat_data.store.verify",
    "neat_train.cli",
    "neat_train.fitting",
    "peft",
    "polars",
    "scipy.stats",
    "transformers.models.llama.modeling_llama",
)


def _import_everything() -> None:
    for module in _MODULES:
        importlib.import_module(module)
    gc.freeze()


def _writes(event: str, arguments: tuple[Any, ...]) -> Any:
    """The path that an audit event is about to change; None where it changes none."""
    if event in _CHANGES:
        return arguments[1 if event in ("os.rename", "os.link") else 0]
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return arguments[0]
    return None


def _watch(told: dict[str, Any]) -> None:
    """Count the steps, tell how many there were at the end, and act before the one that was asked for."""
    steps, here = 0, os.getpid()

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        path = _writes(event, arguments)
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(told["prefix"]):
            return
        steps += 1
        if steps == told["step"] and os.getpid() == here:
            Path(told["token"]).touch()
            _act(told)

    sys.addaudithook(look)
    if told["step"] == 0:
        atexit.register(lambda: Path(told["count"]).write_text(str(steps)))


def _act(told: dict[str, Any]) -> None:
    if told["act"] == "append":
        with open(told["file"], "a") as file:
            file.write(told["line"] + "\n")
    else:
        os.kill(os.getpid(), signal.SIGKILL if told["act"] == "kill" else signal.SIGSTOP)


def _run(told: dict[str, Any]) -> None:
    """The command, in a child; its exit status is the child's."""
    output = os.open(told["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number in (1, 2):
        os.dup2(output, number)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no server outlives the soak
    signal.alarm(_HANGS)
    os.environ.update(told["environment"])
    if "watch" in told:
        _watch(told["watch"])
    program, *arguments = told["command"]
    from neat_data.cli import app as data
    from neat_train.cli import app as train

    sys.argv = [program, *arguments]
    try:
        {"neat-data": data, "neat-train": train}[program](arguments)
    except SystemExit as ended:
        _end(ended, told)


def _end(ended: SystemExit, told: dict[str, Any]) -> NoReturn:
    """Leave without tearing down the interpreter, which takes longer than most commands; the shim counts at its end."""
    if told["environment"].get("SOAK_COUNT"):
        raise ended
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended.code if isinstance(ended.code, int) else int(ended.code is not None))


def _waited(pid: int) -> dict[str, Any]:
    _, status, used = os.wait4(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return {"stopped": True}
    return {"status": os.waitstatus_to_exitcode(status), "seconds": used.ru_utime + used.ru_stime}


def main() -> None:
    """Answer until stdin ends."""
    _import_everything()
    for line in sys.stdin:
        told = json.loads(line)
        if told["do"] == "start":
            if (child := os.fork()) == 0:
                _run(told)
                return
            print(json.dumps({"pid": child}), flush=True)
        else:
            print(json.dumps(_waited(told["pid"])), flush=True)


if __name__ == "__main__":
    main()
