"""Where a dataset lies: a folder of this machine, a URL of an object store, or any other that fsspec opens.

The first two are written to as well. What a dataset is made of is known in `manifest` and `commit`; here are the few
things that a place must be able to do for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from neat_data.errors import InputError
from neat_data.store.address import url_of
from neat_data.store.fsspec_url import FsspecUrl
from neat_data.store.local_folder import LocalFolder
from neat_data.store.objects import SCHEMES, Objects
from neat_data.store.shard import ShardEntry


class Location(Protocol):
    """A place that holds a dataset. Names are relative to it, with `/` between their parts."""

    def where(self, name: str) -> str:
        """A name with the place, for messages."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file's content, None where there is no such file."""
        ...

    def files(self, folder: str) -> dict[str, int]:
        """Names and sizes in bytes of the files right under `folder`, sorted."""
        ...

    def folders(self, folder: str) -> list[str]:
        """What the folders right under `folder` are called, sorted."""
        ...

    def shard(self, entry: ShardEntry) -> Path:
        """The shard as a local file; of a URL, fetched once and checked."""
        ...

    def names(self) -> list[str]:
        """Every file below it, sorted."""
        ...

    def local(self, name: str) -> Path | None:
        """Any file as a local one, of a URL fetched once a version; None where there is none."""
        ...

    def copied(self) -> AbstractContextManager[Path]:
        """All of it as a local folder: itself, or a copy for the length of a block."""
        ...


class Document(Protocol):
    """A small file that changes, in the hands of its only writer."""

    @property
    def content(self) -> bytes | None:
        """What it holds; None where there is no such file."""
        ...

    def write(self, content: bytes) -> None:
        """Replace it, whole or not at all; RunError where another process wrote it since."""
        ...


@runtime_checkable
class Writable(Location, Protocol):
    """A place that can be written to by one process at a time."""

    @property
    def workplace(self) -> Path:
        """A local folder for what only its writer needs."""
        ...

    def held(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Make it, and be its only writer for the length of a block; `say` is told where this waits."""
        ...

    def others(self) -> list[str]:
        """What lies there and begins with no dot, sorted."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Write a file that never changes, whole or not at all."""
        ...

    def commit(self, entry: ShardEntry, content: bytes) -> None:
        """`put` a shard, which this process will read again."""
        ...

    def document(self, name: str) -> Document:
        """A small file that changes."""
        ...

    def set_aside(self, folder: str, name: str) -> None:
        """Take away a folder of files, and leave a folder `name` that says so until it is removed."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file or folder, if it is there."""
        ...


def locate(path: str | os.PathLike[str] | Location) -> Location:
    """The location that a path or URL names.

    Raises:
        InputError: the URL needs a package that is not installed; a path that is not UTF-8.
    """
    if not isinstance(path, str | os.PathLike):
        return path
    url = url_of(path)
    return LocalFolder(Path(path)) if url is None else _at(url)


def writable(path: str | os.PathLike[str] | Location) -> Writable:
    """The same, where it can be written to.

    Raises:
        InputError: it cannot.
    """
    location = locate(path)
    if isinstance(location, FsspecUrl):
        raise InputError(
            f"{path}: datasets are written to local folders, s3://, gs:// and az://.\n"
            "Write it there, and copy it; neat_data.open() and the verbs that read take its URL."
        )
    return cast(Writable, location)


@lru_cache
def _at(url: str) -> Location:
    return Objects(url) if url.split(":", 1)[0] in SCHEMES else FsspecUrl.of(url)
