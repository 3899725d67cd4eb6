"""One data file -> its rows, whatever the file is called: its content says which format it has.

JSON Lines, JSON arrays, CSV, Parquet, Arrow file and stream, any of them behind gzip, xz or zstd.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from neat_data.errors import InputError
from neat_data.sources.files import json_lines, tables
from neat_data.sources.files.compressed import OnRead, compression, nobody, open_bytes
from neat_data.sources.row import RawRow

ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
PACKINGS = ("", ".gz", ".gzip", ".xz", ".zst", ".zstd")
# A whole folder is read by ending, as it may hold anything; these describe data and are none.
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "dataset.json"}
_READERS = {
    "lines": json_lines.lines,
    "array": json_lines.array,
    "csv": tables.csv_rows,
    "parquet": tables.parquet,
    "arrow": tables.arrow_file,
    "stream": tables.arrow_stream,
}
_STARTED = {"lines": json_lines.lines, "parquet": tables.parquet}  # those that may begin inside a file


def is_data_file(name: str) -> bool:
    """Whether a file in a folder or repository is data, by its name's ending."""
    base = name.rsplit("/", 1)[-1].lower()
    if base.startswith((".", "_")) or base in _DESCRIPTIONS:
        return False
    return base.endswith(tuple(ending + packing for ending in ENDINGS for packing in PACKINGS))


def rows(path: Path, on_read: OnRead = nobody, on_first_read: OnRead = nobody, start: int = 0) -> Iterator[RawRow]:
    """The rows of `path`, in order; InputError, naming the file, where it is empty, cut or unreadable.

    Args:
        on_read: of the bytes of the rows.
        on_first_read: of the bytes that are read before, to know the format.
        start: where to begin, as `starts` says it.
    """
    with _named(path):
        kind = _kind(path, on_first_read)
        with open_bytes(path, on_read) as stream:
            yield from _STARTED[kind](stream, start) if start else _READERS[kind](stream)


def starts(path: Path, every: int) -> list[tuple[int, int]] | None:
    """Where reading may begin: (rows before, `start` of `rows`), the file's end last; None where that is not known.

    JSON Lines may be begun at a line (one of `every` rows is given), Parquet at a row group; what is compressed only at
    its first row.

    Raises:
        InputError: as `rows`.
    """
    with _named(path):
        kind, packed = _kind(path, nobody), compression(path) is not None
        if kind not in _STARTED or (packed and kind != "lines"):
            return None
        with open_bytes(path) as stream:
            marks = list(tables.parquet_starts(stream) if kind == "parquet" else json_lines.starts(stream, every))
        return [marks[0], marks[-1]] if packed else marks


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(path.name) else f"{path.name}: {message}") from None
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror or error})") from None


def _kind(path: Path, on_read: OnRead) -> str:
    with open_bytes(path) as stream:
        head = stream.read(8)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith(b"\xff\xff\xff\xff"):
        return "stream"
    return _text_kind(path, on_read)


def _text_kind(path: Path, on_read: OnRead) -> str:
    """`array` where the text opens one, `lines` where one of the first lines opens an object, else `csv`."""
    with open_bytes(path, on_read) as stream:
        written = (line.removeprefix(json_lines.BOM).strip() for line in stream)
        first = list(islice((line for line in written if line), 50))
    if not first:
        raise InputError("the file is empty")
    if json_lines.opens_array(b"\n".join(first)) and not (len(first) > 1 and _is_whole(first[0])):
        return "array"
    if any(line.startswith(b"{") for line in first):
        return "lines"
    is_table = b"," in first[0] or b"\t" in first[0] or not _named_json(path.name)
    return "csv" if is_table else "lines"


def _is_whole(line: bytes) -> bool:
    """Whether a line is whole JSON: more lines behind it make the file JSON Lines."""
    try:
        return isinstance(json.loads(line), list | dict)
    except (ValueError, RecursionError):
        return False


def _named_json(name: str) -> bool:
    """The hint of the ending, for a text that looks neither like JSON nor like a table."""
    return any(part in ("json", "jsonl", "ndjson") for part in name.lower().split(".")[1:])
