"""Many requests to one server, some at a time, their answers in the order of the questions.

The first failure, Ctrl-C included, ends all of them: what waits for an answer is woken, and no thread is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from neat_data.errors import InputError
from neat_data.models.servers.json_server import JsonServer
from neat_data.store.documents import Arguments

Question = TypeVar("Question")
Answer = TypeVar("Answer")
_GLANCE = 0.2  # seconds


def ask_all(
    server: JsonServer,
    ask: Callable[[Question], Answer],
    questions: Sequence[Question],
    at_once: int,
    tell: Callable[[Answer], None],
) -> list[Answer]:
    """`[ask(question) for question in questions]`, with up to `at_once` of them under way.

    Args:
        server: what `ask` talks to; it is stopped for good where anything fails.
        ask: called in threads.
        tell: called here with each answer, in the order in which they come.

    Raises:
        Whatever the first `ask` that failed raised.
    """
    pool = ThreadPoolExecutor(at_once)
    try:
        futures = [pool.submit(ask, question) for question in questions]
        for future in _as_completed(futures):
            tell(future.result())
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        server.stop()
        raise
    finally:
        pool.shutdown()
    return [future.result() for future in futures]


def _as_completed(futures: Sequence[Future[Answer]]) -> Iterator[Future[Answer]]:
    """As `concurrent.futures` has it, but never asleep for long.

    polars handles SIGINT in a way that lets a system call go on after it: a wait without an end would not see Ctrl-C.
    """
    done: SimpleQueue[Future[Answer]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    for _ in futures:
        while True:
            try:
                future = done.get(timeout=_GLANCE)
                break
            except Empty:
                continue
        yield future


def positive(arguments: Arguments, name: str, default: int) -> int:
    """Take the whole number `name` from `--model-arg`'s values.

    Raises:
        InputError: it is none, or below 1.
    """
    value = arguments.pop(name, default)
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise InputError("a whole number from 1 on", field="model_args", value=f"{name}={value}")
    return number
