"""The user's cache folder: what can be made or fetched again, among it shards of datasets that lie elsewhere.

Shards are named by their sha256 and checked against it, so that a dataset that changes under its URL never gives an old
shard, nor a damaged transfer a wrong one. The folder may be deleted at any time when nothing runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from neat_data.errors import RunError
from neat_data.store.atomic import full_disk_explained, write_atomically
from neat_data.store.shard import ShardEntry, file_sha256

_FETCHES = 8  # at once
Fetch = Callable[[], Iterable[bytes]]


def cache_folder() -> Path:
    """Where this project keeps what it can make or fetch again, and notes where the user's models lie."""
    if own := os.environ.get("NEAT_ALIGN_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "neat-align"


def shard_file(entry: ShardEntry, where: str, fetch: Fetch) -> Path:
    """A shard as a local file, fetched where it is not in the cache.

    Args:
        where: its place, for the message.
        fetch: its content, in pieces.

    Raises:
        RunError: what came is not the shard; the disk is full.
    """
    path = _shard_path(entry)
    if not path.exists() or file_sha256(path) != entry.sha256:
        write_file(path, lambda file: _fetch(entry, where, fetch, file))
    return path


def keep_shard(entry: ShardEntry, content: bytes) -> None:
    """Put a shard that was just made into the cache, so that it need not be fetched."""
    write_file(_shard_path(entry), lambda file: file.write(content))


def version_of(where: str, version: str) -> Path:
    """Where a file of a URL is kept that may change there; `version` tells what it is from what it was."""
    return cache_folder() / "objects" / hashed(where, version) / where.rsplit("/", 1)[-1]


def hashed(*parts: str) -> str:
    """A short name for something long."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@contextmanager
def copied(names: Iterable[str], copy: Callable[[str, Path], object]) -> Iterator[Path]:
    """A folder with these files, each fetched once, that is gone behind the block.

    Args:
        names: relative to it; what would reach out of it is left out.
        copy: makes one file at a path.
    """
    root = Path(tempfile.mkdtemp(prefix="neat-align-"))
    inside = [name for name in names if ".." not in name.split("/") and not name.startswith("/")]
    try:
        with ThreadPoolExecutor(_FETCHES) as pool:
            list(pool.map(lambda name: copy(name, root / name), inside))
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """`write_atomically`, with the folders above made."""
    with full_disk_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


def _shard_path(entry: ShardEntry) -> Path:
    return cache_folder() / "shards" / f"{entry.sha256}.arrow"


def _fetch(entry: ShardEntry, where: str, fetch: Fetch, into: BinaryIO) -> None:
    digest = hashlib.sha256()
    for piece in fetch():
        digest.update(piece)
        into.write(piece)
    if digest.hexdigest() != entry.sha256:
        raise RunError(f"{where}: its sha256 is not what the manifest says; it is damaged.")
