"""A data file's bytes, decompressed by what they are (gzip, xz, zstd), whatever the file is called."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from neat_data.errors import InputError

_AT_ONCE = 1 << 17  # bytes between two words of progress
_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# What the three decompressors raise on a cut or damaged file; pyarrow's zstd raises plain OSError.
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)


OnRead = Callable[[int], None]
"""Called with the number of bytes that were read from the disk since the last call."""


def nobody(size: int) -> None:
    """Whom nothing is told."""


class _Counted(io.FileIO):
    """A file that tells how much of it was read: of a small one behind gzip, hours may be read without a row."""

    def __init__(self, path: Path, on_read: OnRead) -> None:
        super().__init__(path)
        self._on_read = on_read

    def readinto(self, buffer: Any, /) -> int | None:
        size = super().readinto(buffer)
        self._on_read(size or 0)
        return size

    def readall(self) -> bytes:
        content = super().readall()
        self._on_read(len(content))
        return content


@contextmanager
def open_bytes(path: Path, on_read: OnRead = nobody) -> Iterator[BinaryIO]:
    """The decompressed bytes of `path`; a cut or damaged file is an InputError when the reader gets there."""
    kind = compression(path)
    with io.BufferedReader(_Counted(path, on_read), _AT_ONCE) as file:
        if kind is None:
            yield file
            return
        with _damage_explained(path, kind), _decompressed(file, kind) as stream:
            yield stream


@contextmanager
def _damage_explained(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise InputError(
            f"{path.name}: the {kind} data is damaged or cut short ({error}).\nGet the file again; nothing was written."
        ) from None


def compression(path: Path) -> str | None:
    """`gzip`, `xz`, `zstd`, or None, by the first bytes."""
    with path.open("rb") as stream:
        head = stream.read(6)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _decompressed(file: BinaryIO, kind: str) -> BinaryIO:
    if kind == "gzip":
        return cast(BinaryIO, gzip.open(file))
    if kind == "xz":
        return cast(BinaryIO, lzma.open(file))
    # pyarrow refuses a cut zstd file; the zstandard package's reader gives what is there without a word.
    return io.BufferedReader(pa.input_stream(file, compression="zstd"))


def sha256(path: Path, on_read: OnRead = nobody) -> str:
    """Hex sha256 of the file as it lies on disk."""
    with io.BufferedReader(_Counted(path, on_read), _AT_ONCE) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
