"""Run shards here: in this process, or in several, one a device.

The shard is the unit of work and of retry. A worker process loads its model once, takes shard numbers, and commits what
it makes by itself; a shard whose worker died is tried again. The same bytes come out whatever the number of workers.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, TypeVar

from neat_data.cores import threads_each
from neat_data.errors import RunError
from neat_data.progress import Watcher

Result = TypeVar("Result")
Advance = Callable[[int, int], None]  # (rows, tokens) since the last call
Work = Callable[[int, Advance], Result]  # makes one shard
MAKE_ATTEMPTS = 3

# A worker's own state, set by `_start_worker`.
_load: Callable[[], Work[Any]]
_work: Work[Any] | None = None
_progress: Any


def spread(
    shards: Sequence[int],
    make_work: Callable[[str], Work[Result]],
    device: str,
    workers: int,
    watch: Watcher,
    done: Callable[[Result], None],
) -> None:
    """Make shards in worker processes, one a device.

    Args:
        device: as the user named it, `auto` and `cuda` included.
        workers: processes at most; 0 takes one for every device.
        done: called in this process with each shard's result.
    """
    from neat_data.models.device import release, worker_devices

    release()  # what this process loaded to look at the model
    devices = worker_devices(device, workers)[: len(shards)]
    run_in_processes(shards, make_work, devices, advance=watch.advance, done=lambda _, made: done(made), warn=watch.say)


def run_in_processes(
    shards: Iterable[int],
    make_work: Callable[[str], Work[Result]],
    devices: list[str],
    *,
    advance: Advance,
    done: Callable[[int, Result], None],
    warn: Callable[[str], None],
) -> None:
    """Make every shard in worker processes, one a device.

    Args:
        shards: shard numbers.
        make_work: picklable; called once in each worker with its device, gives the function that makes a shard.
        devices: one entry a worker, say `["cuda:0", "cuda:1"]` or `["cpu", "cpu"]`.
        advance: progress, called in this process.
        done: called in this process with each shard's number and result.
        warn: told when a worker died and its shard is tried again.

    Raises:
        RunError: workers died three times running without finishing a shard; any error that a worker raised.
    """
    missing = set(shards)
    attempts = 0
    while missing:
        before = len(missing)
        try:
            with _pool(make_work, devices, advance) as pool:
                for shard, result in _made(pool, iter(sorted(missing)), 2 * len(devices)):
                    done(shard, result)
                    missing.discard(shard)
        except BrokenProcessPool as error:
            attempts = attempts + 1 if len(missing) == before else 1
            if attempts == MAKE_ATTEMPTS:
                raise RunError(
                    f"a worker process died {attempts} times before finishing a shard (often: out of memory).",
                    advice="What was committed stays; try fewer {workers}, or a smaller {token_budget}.",
                ) from error
            warn(f"a worker process died; {len(missing)} unfinished shards are tried again")


def _made(pool: ProcessPoolExecutor, shards: Iterator[int], ahead: int) -> Iterator[tuple[int, Any]]:
    """Shards and their results as they come; so many are handed out at a time, as each wait looks at all of them.

    In short waits: behind polars' handler of Ctrl-C a wait without an end has none.
    """
    futures: dict[Future[Any], int] = {}
    while True:
        futures |= {pool.submit(_make, shard): shard for shard in islice(shards, ahead - len(futures))}
        if not futures:
            return
        finished, _ = concurrent.futures.wait(futures, 0.2, concurrent.futures.FIRST_COMPLETED)
        for future in finished:
            yield futures.pop(future), future.result()


@contextmanager
def _pool(make_work: Callable[[str], Work[Any]], devices: list[str], advance: Advance) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers take one device each; on the way out by an error its processes are ended at once."""
    context = multiprocessing.get_context("spawn")
    free = context.SimpleQueue()
    # No queue: its lock would stay taken by a worker that is killed while it tells of progress. So short a message
    # goes through a pipe whole, whoever else writes.
    steps, progress = context.Pipe(duplex=False)
    for device in devices:
        free.put(device)
    pool = ProcessPoolExecutor(
        len(devices), context, _start_worker, (make_work, free, progress, threads_each(len(devices)))
    )
    listener = threading.Thread(target=_listen, args=(steps, advance), daemon=True)
    listener.start()
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.kill()
        raise
    else:
        pool.shutdown()
    finally:
        progress.send(None)
        listener.join()
        steps.close()
        progress.close()


def _listen(steps: Any, advance: Advance) -> None:
    while (step := steps.recv()) is not None:
        advance(*step)


def _start_worker(make_work: Callable[[str], Work[Any]], free: Any, progress: Any, threads: int) -> None:
    global _load, _progress
    follow_parent()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when torch is first imported, later
    _progress = progress
    _load = partial(make_work, free.get())


def follow_parent() -> None:
    """In a process that was begun: leave Ctrl-C to the parent, and end when it does, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _make(shard: int) -> Any:
    global _work
    if _work is None:  # not in `_start_worker`: what goes wrong there reaches nobody
        _work = _load()
    return _work(shard, lambda rows, tokens: _progress.send((rows, tokens)))
