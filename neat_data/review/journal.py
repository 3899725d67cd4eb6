"""A rater's file that is being written: an event is on the disk before `append` returns.

Several processes may write to one file: each append holds the file's lock and first reads what others added. What is
sent twice, by the same event id, is written once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from neat_data.errors import InputError, RunError
from neat_data.store.atomic import sync_folder
from neat_data.store.inside import regular_file
from neat_data.store.reviews import FOLDER, Event, read_events, standing


class Journal:
    """The events of one rater of a dataset.

    Attributes:
        path: of the file; it is made by the first event.
        torn: whether a line without its end, left by a killed writer, was found and cut off.
    """

    def __init__(self, dataset: Path, rater: str) -> None:
        """Raises InputError where the file's place is a link, or taken by something else than a file."""
        self.path = dataset / FOLDER / f"{rater}.jsonl"
        if regular_file(dataset, f"{FOLDER}/{rater}.jsonl") is None and self.path.exists():
            raise InputError(f"{self.path}: is no regular file; remove it.")
        self.torn = False
        self._events: list[Event] = []
        self._named: dict[str, Event] = {}
        self._read = 0  # bytes
        self._one_at_a_time = Lock()

    def append(self, event: Event) -> Event:
        """Write an event, or find it written already; the event as it stands in the file.

        Raises:
            InputError: its id names another event already; what it undoes is not there.
            RunError: the file cannot be written.
        """
        with self._one_at_a_time, self._held() as file:
            before = self._named.get(event.event)
            if before is not None:
                _require_same(before, event)
                return before
            if event.undoes is not None and event.undoes not in self._named:
                raise InputError(f"{self.path}: there is no event {event.undoes!r} to take back.")
            written = replace(event, time=datetime.now(UTC).isoformat(timespec="seconds"))
            self._write(file, written)
            return written

    def events(self) -> list[Event]:
        """All events so far, those of other processes included.

        Raises:
            InputError: a line cannot be read.
        """
        with self._one_at_a_time:
            if self.path.exists():
                with self.path.open("rb") as file:
                    self._catch_up(file)
            return list(self._events)

    def standing(self) -> dict[str, Event]:
        """The rater's verdicts that stand, by response, the latest last."""
        return standing(self.events())

    @contextmanager
    def _held(self) -> Iterator[BinaryIO]:
        """The file, read to its end and locked; the lock goes with the file's closing."""
        try:
            self._make()
            with self.path.open("r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._catch_up(file)
                self._mend(file)
                yield file
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror}); the verdict is not saved.") from error

    def _make(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(exist_ok=True)
            self.path.open("ab").close()
            sync_folder(self.path.parent)
            sync_folder(self.path.parent.parent)

    def _catch_up(self, file: BinaryIO) -> None:
        file.seek(self._read)
        batch = read_events(file.read(), str(self.path))
        self._take(batch.events)
        self._read += batch.whole

    def _take(self, events: tuple[Event, ...]) -> None:
        self._events += events
        self._named |= {event.event: event for event in events if event.event}

    def _mend(self, file: BinaryIO) -> None:
        """Cut off a torn line, and end a whole one that lacks its newline."""
        size = file.seek(0, os.SEEK_END)
        if size > self._read:
            self.torn = True
            file.truncate(self._read)
        elif size and _last_byte(file) != b"\n":
            file.write(b"\n")
            self._read += 1

    def _write(self, file: BinaryIO, event: Event) -> None:
        line = event.to_line()
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(28, os.strerror(28))  # a raw write that the disk has no room for comes back short
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)  # what was not acknowledged shall not stand in front of the next event
            raise
        self._take((event,))
        self._read += len(line)


def writable(dataset: Path) -> bool:
    """Whether verdicts can be written: into `reviews`, which the first one makes in the dataset's folder."""
    folder = dataset / FOLDER
    return os.access(folder, os.W_OK) and folder.is_dir() if folder.exists() else os.access(dataset, os.W_OK)


def _require_same(before: Event, event: Event) -> None:
    if replace(before, time="") != replace(event, time=""):
        raise InputError(f"the event {event.event!r} was written already, with another content.")


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
