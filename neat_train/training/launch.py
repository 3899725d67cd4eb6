"""`--nproc N`: the same command in N processes on this machine, which train together.

What torchrun does across machines, for one: every process finds its rank in the environment. The main one has the
terminal; what the others have to say is kept back, and shown where one of them was the first to fail. No process is
waited for without an end: `leaving_for_good` is how one of several leaves, and the launcher ends those that do not.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

from neat_data.cores import threads_each
from neat_data.errors import InputError

BAD_INPUT = InputError.exit_status
_POLL, _GRACE = 0.1, 10  # seconds
PATIENCE = 300.0  # seconds between the first process that ends well and the last: torchrun's, for the hosts of a run


def launched() -> bool:
    """Whether a launcher (this one, torchrun, accelerate) has started this process as one of several."""
    return "LOCAL_RANK" in os.environ


@contextmanager
def leaving_for_good() -> Iterator[None]:
    """Around all that one of several processes does: its `SystemExit` ends it without taking the interpreter apart.

    While the interpreter is taken apart, threads of torch (gloo's, autograd's) that let go of a tensor ask for its
    lock and never get it; the process then aborts, or waits for them for ever (pytorch issue 190489). So whatever ends
    in order does so here: threads that want to be waited for, hooks, what is in buffers. Then the process is gone.
    """
    try:
        yield
    except SystemExit as end:
        if not launched():
            raise
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


def launch(command: Sequence[str], processes: int, patience: float = PATIENCE) -> int:
    """Run `command` in so many processes; the exit status of the first that fails, which ends the others, or 0.

    1, too, where a process is still there `patience` seconds after the first has ended well: they leave together, so it
    is stuck. It is ended.
    """
    port = str(reserved_port())
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
            environment.setdefault("OMP_NUM_THREADS", str(threads_each(processes)))
            out = None if rank == 0 else logs[rank]
            started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
        failed = _first_to_fail(started, patience)
        if failed is None:
            return _tell_stuck(started, patience)
        status = started[failed].returncode
        if failed and not (status == BAD_INPUT and _ended(started[0]) == BAD_INPUT):  # all find the same mistake
            _show(logs[failed])
        return 128 - status if status < 0 else status


def _first_to_fail(started: Sequence[subprocess.Popen[bytes]], patience: float) -> int | None:
    """Its rank; None when all have ended well, or one has and some are still there after `patience` seconds."""
    last = float("inf")
    while True:
        states = [process.poll() for process in started]
        for rank, state in enumerate(states):
            if state:
                return rank
        if 0 in states:
            last = min(last, time.monotonic() + patience)
        if all(state == 0 for state in states) or time.monotonic() > last:
            return None
        time.sleep(_POLL)


def _tell_stuck(started: Sequence[subprocess.Popen[bytes]], patience: float) -> int:
    """The launcher's exit status when no process has failed: 1 where some are still there, which stderr is told."""
    stuck = [str(rank) for rank, process in enumerate(started) if process.poll() is None]
    if not stuck:
        return 0
    print(
        f"error: rank {', '.join(stuck)} had not ended {patience:g} s after another had finished its work, and was "
        "ended.\nWhat was committed stays, and the same command goes on from there, or says that nothing is left.",
        file=sys.stderr,
    )
    return 1


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


def reserved_port() -> int:
    """A port of loopback that the system gives to nobody else for a minute; who names it, as torch does, may have it.

    A port that was merely free is soon another's. One that lately ended a connection, which is why one is made and
    ended from its side, is kept back (TIME_WAIT) from all who take any port there is.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
        return port
