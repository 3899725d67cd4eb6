"""A writer to an object store that dies at any request loses nothing that was committed and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neat_data.store.location import writable
from tests.support.object_server import Bucket

# Reads URLs: each time, a forked child makes the two shards of `killed_writer` there. Prints its process id, then its
# exit status.
WRITING = """
import os, sys
import boto3, obstore.auth.boto3, tenacity
import killed_writer
for url in sys.stdin:
    child = os.fork()
    if child == 0:
        killed_writer.write(url.strip())
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Writers:
    """Processes that write a dataset to a URL."""

    def __init__(self, bucket: Bucket) -> None:
        here = Path(__file__).parent
        started = [sys.executable, "-c", WRITING]
        environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[3]}"}
        self._bucket = bucket
        self._process = subprocess.Popen(
            started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, below: str, dies_at: int = 0) -> int:
        """The exit status of one that is killed while its n-th request is answered (0: never)."""
        self._bucket.proxy.requests.clear()
        self._bucket.proxy.fault = lambda method, name: None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        process: list[int] = []

        def killing(method: str, name: str) -> Callable[[], object] | None:
            if len(self._bucket.proxy.requests) != dies_at:
                return None
            return lambda: os.kill(process[0], signal.SIGKILL)

        if dies_at:
            self._bucket.proxy.fault = killing
        self._process.stdin.write(f"{self._bucket.url(below)}\n")
        self._process.stdin.flush()
        process.append(int(self._process.stdout.readline()))
        return int(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


@pytest.fixture
def writers(
    request: pytest.FixtureRequest, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Writers]:
    """Writers whose leases last so many seconds."""
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NEAT_ALIGN_LEASE_SECONDS", str(request.param))
    made = Writers(bucket)
    yield made
    made.end()


def _killed_and_resumed(bucket: Bucket, writers: Writers, whole: dict[str, bytes], point: int, *, wait: bool) -> None:
    below = f"killed-{point}"
    assert writers.run(below, point) == -signal.SIGKILL
    for name, content in bucket.files(below).items():
        assert content == whole.get(name, content) or name == "dataset.json", name
    if not wait:  # for the end of the dead one's lease
        writable(bucket.url(below)).remove(".lease")
    assert writers.run(below) == 0
    assert bucket.files(below) == whole


@pytest.mark.parametrize("writers", [1], indirect=True)
def test_killed_at_a_request_and_resumed_the_objects_equal_undisturbed_ones(bucket: Bucket, writers: Writers):
    assert writers.run("undisturbed") == 0
    whole = bucket.files("undisturbed")
    assert {"dataset.json", "README.md", "round-0000/00001.arrow", "rejects/00001.jsonl"} < whole.keys()
    shard = next(n for n, (_, name) in enumerate(bucket.proxy.requests, 1) if name.endswith("00001.arrow"))
    _killed_and_resumed(bucket, writers, whole, shard, wait=True)


@pytest.mark.slow
@pytest.mark.parametrize("writers", [600], indirect=True)  # so long that none is renewed, and requests can be counted
def test_killed_at_any_request_and_resumed_the_objects_equal_undisturbed_ones(bucket: Bucket, writers: Writers):
    assert writers.run("undisturbed") == 0
    whole, requests = bucket.files("undisturbed"), len(bucket.proxy.requests)
    assert requests > 20
    for point in range(1, requests):
        _killed_and_resumed(bucket, writers, whole, point, wait=False)
