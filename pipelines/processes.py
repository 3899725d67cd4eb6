"""Processes that end with the one that began them, and how that one ends: a line for Ctrl-C, SIGTERM or an error."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO

from neat_data.errors import NeatError, RunError

PATIENCE = 30.0  # seconds that a command which the terminal told of Ctrl-C may take to end


class Terminated(BaseException):
    """SIGTERM came."""


class Processes:
    """Commands that run now, from any thread; where the `with` around them is left early, they end.

    After Ctrl-C they have `patience` seconds for it, because the terminal told them as well; else they are terminated.
    None of them begins afterwards.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Processes:
        return self

    def run(self, words: Sequence[str], environment: Mapping[str, str], output: IO[str] | None = None) -> int:
        """The exit status of a command, waited for.

        Args:
            output: where both of its streams go; None: where ours go.

        Raises:
            OSError: it cannot be run.
            RunError: it did not come to its end, because the `with` was left.
        """
        with self._lock:
            if self._closed:
                raise RunError(f"{words[0]}: not begun, the commands beside it have been stopped")
            process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
            self._running.add(process)
        status = process.wait()
        with self._lock:
            self._running.discard(process)
            if self._closed:
                raise RunError(f"{words[0]}: was stopped")
        return status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            left = list(self._running)
        try:
            for process in left if kind is KeyboardInterrupt else ():
                process.wait(self._patience)
        except subprocess.TimeoutExpired:  # one of them knows nothing of it
            pass
        finally:
            for process in left:
                process.terminate()
            for process in left:
                process.wait()


def exit_status_of(work: Callable[[], object]) -> int:
    """0, or the exit status for what ended `work`: an error or a signal, of which stderr is told in a line."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        work()
    except NeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except (KeyboardInterrupt, Terminated) as end:
        print("stopped; the same command again goes on from there.", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(end, Terminated) else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _terminate(*_: object) -> None:
    raise Terminated
