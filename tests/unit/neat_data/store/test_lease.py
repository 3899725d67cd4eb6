"""Two writers at once: one is refused, a dead one's lease ends, and one that was taken for dead writes no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from neat_data.errors import InputError, RunError
from neat_data.store.folder import DatasetFolder
from neat_data.store.lease import NAME, Lease
from neat_data.store.objects import Objects
from tests.support.object_server import Bucket


def _dead(bucket: Bucket) -> Lease:
    """A lease whose holder renews it no more."""
    lease = Lease(Objects(bucket.url()), bucket.url(), lambda line: None)
    lease._released.set()
    lease._thread.join()
    return lease


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A term that a test can wait for."""
    monkeypatch.setenv("NEAT_ALIGN_LEASE_SECONDS", "1")


def test_a_living_writer_keeps_others_away(bucket: Bucket, settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEAT_ALIGN_LEASE_SECONDS", "600")  # so that it is renewed here alone
    said: list[str] = []
    with DatasetFolder.open(bucket.url(), settings, versions={}) as first:

        def renew(line: str) -> None:
            said.append(line)
            first.place._lease._renew()

        with pytest.raises(InputError, match="another process is writing there"):
            DatasetFolder.claim(bucket.url(), renew)
        first.write_card("still mine")
    assert "did not let go; waiting for it, at most" in said[0]
    assert NAME not in bucket.files()
    DatasetFolder.claim(bucket.url()).close()


def test_a_dead_writers_lease_is_waited_for_and_taken(bucket: Bucket, short):
    _dead(bucket)
    said: list[str] = []
    DatasetFolder.claim(bucket.url(), said.append).close()
    assert len(said) == 1
    assert NAME not in bucket.files()


@pytest.mark.slow
def test_of_many_that_wait_for_a_dead_writer_one_goes_on(bucket: Bucket, short, monkeypatch: pytest.MonkeyPatch):
    _dead(bucket)
    monkeypatch.setenv("NEAT_ALIGN_LEASE_SECONDS", "600")  # so that who goes on is renewed here alone
    held, refused, go = [], [], threading.Barrier(4)

    def contend() -> None:
        go.wait()
        try:
            held.append(Lease(Objects(bucket.url()), bucket.url(), lambda line: None))
        except InputError:
            refused.append(1)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for lease in held:
            lease._renew()
        time.sleep(0.2)
    assert (len(held), len(refused)) == (1, 3)
    held[0].release()


def test_who_was_taken_for_dead_writes_no_more(bucket: Bucket, settings, short):
    lease = _dead(bucket)
    other = Lease(Objects(bucket.url()), bucket.url(), lambda line: None)
    lease._released.clear()
    lease._renew_until_released()  # ends, since it is not its own any more
    with pytest.raises(RunError, match="another process took over"):
        lease.require()
    lease.release()
    other.require()
    assert Objects(bucket.url()).read(NAME) is not None
    other.release()
    assert Objects(bucket.url()).read(NAME) is None


def test_a_manifest_that_somebody_else_wrote_is_not_written_over(bucket: Bucket, settings, commit: Callable):
    with DatasetFolder.open(bucket.url(), settings, versions={}) as folder:
        Objects(bucket.url()).document("dataset.json").write(b"{}")
        with pytest.raises(RunError, match="another process took over"):
            commit(folder, 0)
    assert bucket.files()["dataset.json"] == b"{}"
