"""A dataset in a folder of this machine: what has its name is whole and on the disk, and death lets go of the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neat_data.errors import InputError
from neat_data.store import claim
from neat_data.store.atomic import full_disk_explained, remove_entry, write_atomically
from neat_data.store.inside import refuse_links, regular_file, require_utf8
from neat_data.store.shard import ShardEntry


@dataclass(frozen=True)
class LocalFolder:
    """A `Location`: the folder `root`."""

    root: Path

    def __post_init__(self) -> None:
        """Raises InputError where the path is not UTF-8."""
        require_utf8(self.root)

    def __str__(self) -> str:
        return str(self.root)

    def where(self, name: str) -> str:
        return str(self.root / name)

    def read(self, name: str) -> bytes | None:
        path = regular_file(self.root, name)
        return None if path is None else path.read_bytes()

    def files(self, folder: str) -> dict[str, int]:
        paths = sorted((self.root / folder).glob("*"))
        return {path.relative_to(self.root).as_posix(): path.stat().st_size for path in paths if path.is_file()}

    def folders(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.root / folder).glob("*") if path.is_dir())

    def others(self) -> list[str]:
        return claim.others(self.root)

    def names(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def shard(self, entry: ShardEntry) -> Path:
        path = regular_file(self.root, entry.name)
        size = None if path is None else path.stat().st_size
        if path is None or size != entry.bytes:
            what = "missing" if size is None else f"damaged: {size:,} bytes instead of {entry.bytes:,}"
            raise InputError(
                f"{self.root / entry.name}: {what}.\n`neat-data verify {self.root}` checks the whole folder."
            )
        return path

    def local(self, name: str) -> Path | None:
        return regular_file(self.root, name)

    @contextmanager
    def copied(self) -> Iterator[Path]:
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such local folder.")
        yield self.root

    @property
    def workplace(self) -> Path:
        return self.root

    @contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        refuse_links(self.root)
        with claim.claimed(self.root):
            yield

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        with full_disk_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))

    def commit(self, entry: ShardEntry, content: bytes) -> None:
        self.put(entry.name, content)

    def document(self, name: str) -> _File:
        return _File(self, name)

    def set_aside(self, folder: str, name: str) -> None:
        (self.root / folder).mkdir(exist_ok=True)
        (self.root / folder).rename(self.root / name)

    def remove(self, name: str) -> None:
        remove_entry(self.root / name)


@dataclass(frozen=True)
class _File:
    """A `Document`; the folder's lock keeps other writers away."""

    folder: LocalFolder
    name: str

    @property
    def content(self) -> bytes | None:
        return self.folder.read(self.name)

    def write(self, content: bytes) -> None:
        self.folder.put(self.name, content)
