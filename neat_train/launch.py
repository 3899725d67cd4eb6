"""`--nproc N`: the same command in N processes on this machine, which train together.

What torchrun does across machines, for one: every process finds its rank in the environment. The main one has the
terminal; what the others have to say is kept back, and shown where one of them was the first to fail.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from neat_data.errors import InputError

BAD_INPUT = InputError.exit_status
_POLL, _GRACE = 0.1, 10  # seconds


def launched() -> bool:
    """Whether a launcher (this one, torchrun, accelerate) has started this process as one of several."""
    return "LOCAL_RANK" in os.environ


def launch(command: Sequence[str], processes: int) -> int:
    """Run `command` in so many processes; the exit status of the first that fails, which ends the others, or 0."""
    port = str(_free_port())
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(processes)]
        started: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, started)
        before = signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
        )  # the others end with this one
        stack.callback(signal.signal, signal.SIGTERM, before)
        for rank in range(processes):
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
            environment = {**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment["LOCAL_WORLD_SIZE"] = str(processes)
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
            out = None if rank == 0 else logs[rank]
            started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
        failed = _first_to_fail(started)
        if failed is None:
            return 0
        status = started[failed].returncode
        if failed and not (status == BAD_INPUT and _ended(started[0]) == BAD_INPUT):  # all find the same mistake
            _show(logs[failed])
        return 128 - status if status < 0 else status


def _first_to_fail(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Its rank; None when all have ended well."""
    while True:
        states = [process.poll() for process in started]
        for rank, state in enumerate(states):
            if state:
                return rank
        if all(state == 0 for state in states):
            return None
        time.sleep(_POLL)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit status, waited for a little."""
    try:
        return process.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        return None


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs: a process that waits for one that is gone would wait for ever."""
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in started:
        if _ended(process) is None:
            process.kill()
            process.wait()


def _show(log: IO[bytes]) -> None:
    log.seek(0)
    sys.stderr.write(log.read().decode(errors="replace"))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
