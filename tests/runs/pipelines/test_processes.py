"""Commands end with whoever began them; whatever ends a program is a line and an exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from neat_data.errors import InputError, RunError
from pipelines.processes import Processes, exit_status_of

WAITS = "import time; print(1, flush=True); time.sleep(600); print(2)"


@pytest.mark.parametrize("left", [KeyboardInterrupt, ValueError])
def test_a_command_that_was_told_nothing_is_terminated_and_none_begins_afterwards(left: type[BaseException]) -> None:
    reading, writing = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))
    processes = Processes(patience=0.0)

    def interrupted(pool: ThreadPoolExecutor) -> None:
        with processes:
            began.append(pool.submit(processes.run, [sys.executable, "-c", WAITS], os.environ, writing))
            assert reading.readline() == "1\n"
            raise left

    began: list[Future[int]] = []
    with reading:
        with writing, ThreadPoolExecutor(1) as pool, pytest.raises(left):
            interrupted(pool)
        assert reading.read() == "", "it did not come to its end"
    assert isinstance(began[0].exception(), RunError)
    with pytest.raises(RunError, match="not begun"):
        processes.run(["true"], os.environ)


def fail() -> None:
    raise InputError("no such thing")


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        (lambda: None, 0, ""),
        (fail, 2, "error: no such thing\n"),
        (lambda: signal.raise_signal(signal.SIGINT), 130, "stopped; the same command again goes on from there.\n"),
        (lambda: signal.raise_signal(signal.SIGTERM), 143, "stopped; the same command again goes on from there.\n"),
    ],
)
def test_what_ends_the_work_is_told_in_a_line(
    work: Callable[[], None], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert exit_status_of(work) == status
    assert capsys.readouterr().err == said
    assert signal.getsignal(signal.SIGTERM) == before
