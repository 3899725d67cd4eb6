"""Where a dataset is read from: a local folder, or any URL that fsspec opens. It is written to the former alone.

Shards of a URL are fetched into the user's cache folder, named by their sha256 and checked against it, so that a
dataset that changes under its URL never gives an old shard, nor a damaged transfer a wrong one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from neat_data.errors import InputError, RunError
from neat_data.store.atomic import write_atomically
from neat_data.store.inside import regular_file, require_utf8
from neat_data.store.shard import ShardEntry, file_sha256


class Location(Protocol):
    """A place that holds a dataset."""

    def read(self, name: str) -> bytes | None:
        """A small file's content, None where there is no such file."""
        ...

    def names(self, folder: str) -> list[str]:
        """Files right under `folder`, as names relative to the dataset, sorted."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Names of the folders right under `folder`, sorted."""
        ...

    def shard(self, entry: ShardEntry) -> Path:
        """The shard as a local file."""
        ...


def locate(path: str | os.PathLike[str]) -> Location:
    """The location that a path or URL names.

    Raises:
        InputError: the URL needs a package that is not installed; a path that is not UTF-8.
    """
    if "://" not in str(path):
        require_utf8(Path(path))
        return _Folder(Path(path))
    import fsspec

    try:
        system, root = fsspec.url_to_fs(str(path))
    except (ImportError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    return _Url(system, root.rstrip("/"))


def cache_folder() -> Path:
    """Where this project keeps what it can make or fetch again, and notes where the user's models lie."""
    if own := os.environ.get("NEAT_ALIGN_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "neat-align"


@dataclass(frozen=True)
class _Folder:
    root: Path

    def read(self, name: str) -> bytes | None:
        path = regular_file(self.root, name)
        return None if path is None else path.read_bytes()

    def names(self, folder: str) -> list[str]:
        paths = (self.root / folder).glob("*")
        return sorted(f"{folder}/{path.name}" for path in paths if path.is_file())

    def folders(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.root / folder).glob("*") if path.is_dir())

    def shard(self, entry: ShardEntry) -> Path:
        path = regular_file(self.root, entry.name)
        size = None if path is None else path.stat().st_size
        if path is None or size != entry.bytes:
            what = "missing" if size is None else f"damaged: {size:,} bytes instead of {entry.bytes:,}"
            raise InputError(
                f"{self.root / entry.name}: {what}.\n`neat-data verify {self.root}` checks the whole folder."
            )
        return path


@dataclass(frozen=True)
class _Url:
    system: Any  # fsspec.AbstractFileSystem
    root: str

    def read(self, name: str) -> bytes | None:
        try:
            return self.system.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        try:
            paths = self.system.ls(f"{self.root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{name.rsplit('/', 1)[1]}" for name in paths)

    def folders(self, folder: str) -> list[str]:
        try:
            entries = self.system.ls(f"{self.root}/{folder}", detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rstrip("/").rsplit("/", 1)[1] for entry in entries if entry["type"] == "directory")

    def shard(self, entry: ShardEntry) -> Path:
        path = cache_folder() / "shards" / f"{entry.sha256}.arrow"
        if not path.exists() or file_sha256(path) != entry.sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: self._fetch(entry, file))
        return path

    def _fetch(self, entry: ShardEntry, into: BinaryIO) -> None:
        digest = hashlib.sha256()
        with self.system.open(f"{self.root}/{entry.name}", "rb") as source:
            shutil.copyfileobj(source, _Hashed(into, digest))
        if digest.hexdigest() != entry.sha256:
            raise RunError(f"{self.root}/{entry.name}: its sha256 is not what the manifest says; it is damaged.")


@dataclass(frozen=True)
class _Hashed:
    """A file that hashes what is written to it."""

    file: BinaryIO
    digest: Any

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)


def require_local(path: Path) -> None:
    """Raise InputError where `path` is a URL: a dataset is written to a local folder only."""
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise InputError(
            f"{path}: datasets are written to a local folder only. Write it there, then upload the folder;\n"
            "neat_data.open() and the verbs that read take its URL."
        )
