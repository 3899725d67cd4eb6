"""A data file's bytes, decompressed by what they are (gzip, xz, zstd), whatever the file is called."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from neat_data.errors import InputError

_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# What the three decompressors raise on a cut or damaged file; pyarrow's zstd raises plain OSError.
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The decompressed bytes of `path`; a cut or damaged file is an InputError when the reader gets there."""
    kind = compression(path)
    if kind is None:
        with path.open("rb") as stream:
            yield stream
        return
    try:
        with _decompressed(path, kind) as stream:
            yield stream
    except _DAMAGE as error:
        raise InputError(
            f"{path.name}: the {kind} data is damaged or cut short ({error}).\nGet the file again; nothing was written."
        ) from None


def compression(path: Path) -> str | None:
    """`gzip`, `xz`, `zstd`, or None, by the first bytes."""
    with path.open("rb") as stream:
        head = stream.read(6)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _decompressed(path: Path, kind: str) -> BinaryIO:
    if kind == "gzip":
        return cast(BinaryIO, gzip.open(path))
    if kind == "xz":
        return cast(BinaryIO, lzma.open(path))
    # pyarrow refuses a cut zstd file; the zstandard package's reader gives what is there without a word.
    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def sha256(path: Path) -> str:
    """Hex sha256 of the file as it lies on disk."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
