"""One shard: an Arrow IPC file whose bytes are a function of its rows and metadata alone.

The file format (never the stream format, which reads truncated files as shorter ones), uncompressed so that every
library maps it, one record batch. What is known of a shard stands in its schema metadata, canonical JSON under one key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.store.atomic import write_atomically
from neat_data.store.documents import Metadata

METADATA_KEY = b"neat_align"
_REMEDY = "remove it: the same command again makes it anew"


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """What the manifest says of a shard. `name` is relative to the dataset (`round-0000/00000.arrow`)."""

    name: str
    rows: int
    responses: int
    bytes: int
    sha256: str


class DamagedShard(InputError, ValueError):
    """A file under a shard's name that cannot be read as one; `why` is said without its name."""

    def __init__(self, path: Path, why: str) -> None:
        self.why = why
        super().__init__(
            f"{path}: damaged: {why}.\n`neat-data verify` checks the whole folder; copy the file anew, or remove it "
            "and run the command that made it again."
        )


def write_shard(path: Path, table: pa.Table, metadata: Mapping[str, Any], compression: str | None = None) -> ShardEntry:
    """Write `table` atomically to `path`; equal rows and metadata give equal bytes, however the table was put together.

    Args:
        path: its last two parts become the entry's name.
        table: any schema; its own schema metadata is dropped.
        metadata: JSON-able; read back by `shard_metadata`.
        compression: `zstd`, or None for a shard that can be mapped.

    Raises:
        RunError: the disk is full.
    """
    content = shard_bytes(table, metadata, compression)
    write_atomically(path, lambda file: file.write(content))
    return entry_of(_name(path), table, content)


def entry_of(name: str, table: pa.Table, content: pa.Buffer) -> ShardEntry:
    """What the manifest says of a shard that was just made."""
    digest = hashlib.sha256(content).hexdigest()
    return ShardEntry(name, len(table), elements(table, "responses"), content.size, digest)


def shard_bytes(table: pa.Table, metadata: Mapping[str, Any], compression: str | None = None) -> pa.Buffer:
    """The bytes of a shard."""
    table = _rebuilt(table).replace_schema_metadata({METADATA_KEY: canonical_json(metadata)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _rebuilt(table: pa.Table) -> pa.Table:
    """The same rows in fresh buffers: a slice drags along offsets and validity bits of the table it was cut from."""
    return table.combine_chunks().take(pa.array(range(len(table)), pa.int64())).combine_chunks()


def read_shard(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """The shard's rows, memory-mapped.

    Raises:
        DamagedShard: the file is truncated, no Arrow file at all, or has other columns than this schema.
    """
    with _opened(path) as file:
        table = file.read_all()
    if schema is not None and table.schema != schema:
        raise DamagedShard(path, "its columns are not those of such a file")
    return table


@contextmanager
def _opened(path: Path) -> Iterator[pa.RecordBatchFileReader]:
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise DamagedShard(path, "it is no regular file")
    try:
        with pa.memory_map(str(path)) as source:
            yield pa.ipc.open_file(source)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DamagedShard(path, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def shard_metadata(path: Path) -> Metadata:
    """What `write_shard` was given as metadata; `{}` for an Arrow file that is not ours.

    Raises:
        DamagedShard: the file is truncated, no Arrow file at all, or its metadata is no JSON object.
    """
    with _opened(path) as file:
        schema = file.schema
    try:
        metadata = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (ValueError, RecursionError) as error:
        raise DamagedShard(path, f"its metadata is not JSON ({type(error).__name__})") from error
    if not isinstance(metadata, dict):
        raise DamagedShard(path, "its metadata is no JSON object")
    return metadata


def shard_entry(path: Path) -> ShardEntry:
    """The entry of a shard that lies on disk; its hash is computed."""
    table = read_shard(path)
    return ShardEntry(_name(path), len(table), elements(table, "responses"), path.stat().st_size, file_sha256(path))


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def damage(path: Path, entry: ShardEntry) -> str | None:
    """What is wrong with the bytes of a shard; None where they are those that were written."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            return "is no regular file"
        if size != entry.bytes:
            return f"damaged: {size:,} bytes instead of {entry.bytes:,} ({_REMEDY})"
        if file_sha256(path) != entry.sha256:
            return f"damaged: its sha256 is not the manifest's ({_REMEDY})"
    except FileNotFoundError:
        return "missing (the same command again makes it anew)"
    except OSError as error:
        return f"cannot be read ({error})"
    return None


def reason(error: Exception) -> str:
    """What broke a reader of a shard, on one line."""
    return error.why if isinstance(error, DamagedShard) else f"{type(error).__name__}: {error}"


def elements(table: pa.Table, column: str) -> int:
    """Elements of a list column, all rows together; 0 where the table has no such column."""
    if column not in table.column_names:
        return 0
    return sum(len(chunk.flatten()) for chunk in table[column].chunks)
