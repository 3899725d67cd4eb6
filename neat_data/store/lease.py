"""The right to write below a URL: an object that its holder renews, and that a dead holder loses.

A store has no lock that death releases. So the holder replaces the object `.lease` three times a term, each time only
where it is still the one that it wrote. Who finds a lease waits until it is renewed, and then gives up, or until it is
older than its term, and then replaces it on condition that nobody else did. Its age is the difference of two times of
the store's own, that of the lease and that of an object that was written just now: clocks of machines do not count.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from neat_data.errors import InputError, NeatError, RunError

NAME = ".lease"
_TERM_SECONDS = 30.0
_COARSE_SECONDS = 1.0  # stores tell times in whole seconds
_LOOK_SECONDS = 1.0
Version = dict[str, Any]  # what tells an object from what was there before


class Conflict(Exception):
    """An object is there although it must not be, or is another one than it was."""


class Bucket(Protocol):
    """What a lease needs of a store."""

    def create(self, name: str, content: bytes) -> Version:
        """Write an object that is not there; Conflict where it is."""
        ...

    def replace(self, name: str, content: bytes, old: Version) -> Version:
        """Write an object that is still `old`; Conflict where it is not."""
        ...

    def modified(self, name: str) -> tuple[Version, datetime] | None:
        """Which version an object is, and since when by the store's clock; None where there is none."""
        ...

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        ...

    def remove(self, name: str) -> None:
        """Delete an object, if it is there."""
        ...


class Lease:
    """A lease that is held from its making until `release`; a thread renews it."""

    def __init__(self, bucket: Bucket, url: str, say: Callable[[str], None]) -> None:
        """Take it, or wait for the end of what a dead process left.

        Args:
            url: of what is written to, for messages.
            say: told that this waits.

        Raises:
            InputError: another process holds it, or the store does not honour conditions.
        """
        self._bucket, self._url, self._say = bucket, url, say
        self._seconds, self._holder, self._writes = _term(), secrets.token_hex(8), itertools.count()
        self._lost, self._released = False, threading.Event()
        self._version = self._take()
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Raise RunError where another process has taken the lease since."""
        if self._lost:
            raise taken_over(self._url)

    def release(self) -> None:
        """Let go; what another process holds is left alone."""
        self._released.set()
        self._thread.join()
        with suppress(Conflict, NeatError):  # it is another's, or its term ends it
            self._renew()
            self._bucket.remove(NAME)

    def _take(self) -> Version:
        while True:
            with suppress(Conflict):
                return self._checked(self._bucket.create(NAME, self._content()))
            current = self._bucket.modified(NAME)
            if current is not None:
                self._outlive(*current)
                with suppress(Conflict):
                    return self._bucket.replace(NAME, self._content(), current[0])

    def _checked(self, first: Version) -> Version:
        """The lease, replaced once, where the store refuses what it must."""
        second = self._bucket.replace(NAME, self._content(), first)
        for write in (
            lambda: self._bucket.create(NAME, self._content()),
            lambda: self._bucket.replace(NAME, self._content(), first),
        ):
            with suppress(Conflict):
                write()
                self._bucket.remove(NAME)
                raise InputError(
                    f"{self._url}: this store does not honour conditional puts (If-None-Match, If-Match), so two "
                    "writers could not be kept apart.",
                    advice="Write to a local folder and upload it, or choose another {out}.",
                )
        return second

    def _store_time(self) -> datetime:
        """What the store's clock says."""
        name = f".now-{self._holder}"
        self._bucket.create(name, self._content())
        current = self._bucket.modified(name)
        self._bucket.remove(name)
        if current is None:
            raise RunError(f"{self._url}: {name} was put there and is gone; another process deletes there.")
        return current[1]

    def _outlive(self, version: Version, since: datetime) -> None:
        """Wait until a lease is past its term; InputError where its holder renews it."""
        left = self._term_of_other() + _COARSE_SECONDS - (self._store_time() - since).total_seconds()
        if left > 0:
            self._say(f"{self._url}: its last writer did not let go; waiting for it, at most {left:.0f} s")
        end = time.monotonic() + left
        while time.monotonic() < end:
            time.sleep(min(_LOOK_SECONDS, max(0.0, end - time.monotonic())))
            current = self._bucket.modified(NAME)
            if current is None:
                return
            if current[0] != version:
                raise InputError(
                    f"{self._url}: another process is writing there.",
                    advice="Wait for its end, or choose another {out}.",
                )

    def _term_of_other(self) -> float:
        with suppress(ValueError, TypeError, KeyError):
            return float(json.loads(self._bucket.read(NAME) or b"{}")["seconds"])
        return _TERM_SECONDS

    def _renew_until_released(self) -> None:
        while not self._released.wait(self._seconds / 3):
            try:
                self._renew()
            except Conflict:
                self._lost = True
                return
            except NeatError:
                continue  # the store may answer again before the term ends

    def _renew(self) -> None:
        self._version = self._bucket.replace(NAME, self._content(), self._version)

    def _content(self) -> bytes:
        said = {"holder": self._holder, "write": next(self._writes), "seconds": self._seconds}
        return json.dumps(said).encode()


def taken_over(url: str) -> RunError:
    """What to raise where somebody else writes to what this process held."""
    return RunError(
        f"{url}: another process took over as its writer, since this one was not heard of for too long.\n"
        "What was committed stays; the other process goes on with it."
    )


def _term() -> float:
    """Seconds until a lease that is not renewed is lost."""
    return float(os.environ.get("NEAT_ALIGN_LEASE_SECONDS", _TERM_SECONDS))
