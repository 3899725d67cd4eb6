"""A dataset at a URL that fsspec opens: read, and written to by nobody here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.store import cache
from neat_data.store.shard import ShardEntry

_PIECE = 1 << 20


@dataclass(frozen=True)
class FsspecUrl:
    """A `Location` that is read only.

    Attributes:
        url: as the user gave it.
        system: the fsspec.AbstractFileSystem.
        root: the dataset inside it.
    """

    url: str
    system: Any
    root: str

    @classmethod
    def of(cls, url: str) -> FsspecUrl:
        """Raises InputError where the URL needs a package that is not installed."""
        import fsspec

        try:
            system, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"{url}: {error}") from error
        return cls(url, system, root.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        try:
            return self.system.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None

    def files(self, folder: str) -> dict[str, int]:
        prefix = f"{folder}/" if folder else ""
        return {f"{prefix}{name}": size for name, size in self._listed(folder, "file").items()}

    def folders(self, folder: str) -> list[str]:
        return list(self._listed(folder, "directory"))

    def names(self) -> list[str]:
        return sorted(path.removeprefix(f"{self.root}/") for path in self.system.find(self.root))

    def local(self, name: str) -> Path | None:
        place = f"{self.root}/{name}"
        if not self.system.isfile(place):
            return None
        path = cache.version_of(self.where(name), self.system.ukey(place))
        if not path.exists():
            self._copy(name, path)
        return path

    def shard(self, entry: ShardEntry) -> Path:
        return cache.shard_file(entry, self.where(entry.name), lambda: self._pieces(entry.name))

    @contextmanager
    def copied(self) -> Iterator[Path]:
        with cache.copied(self.names(), self._copy) as root:
            yield root

    def _copy(self, name: str, path: Path) -> None:
        cache.write_file(path, lambda file: file.writelines(self._pieces(name)))

    def _pieces(self, name: str) -> Iterator[bytes]:
        with self.system.open(f"{self.root}/{name}", "rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    def _listed(self, folder: str, kind: str) -> dict[str, int]:
        """Names and sizes of what lies right under `folder`, sorted."""
        try:
            entries = self.system.ls(f"{self.root}/{folder}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        named = {entry["name"].rstrip("/").rsplit("/", 1)[1]: entry for entry in entries if entry["type"] == kind}
        return {name: named[name].get("size") or 0 for name in sorted(named)}
