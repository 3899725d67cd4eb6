"""CSV, Parquet and Arrow, row by row. A row's raw form is JSON of its columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from neat_data.errors import InputError
from neat_data.sources.row import Columns, RawRow, Unusable
from neat_data.sources.shapes.values import plain

_ROWS_AT_ONCE = 1_000
# A stream's end marker: a continuation and a length of zero. Without it a cut stream reads as a shorter one.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_MAXIMUM_FIELD = 2**31 - 1


def csv_rows(stream: BinaryIO) -> Iterator[RawRow]:
    """The rows of a CSV file with a header (tabs where the header has tabs and no comma)."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline()
    delimiter = "\t" if "\t" in first and "," not in first else ","
    csv.field_size_limit(_MAXIMUM_FIELD)
    taken = _Taken(first, text)
    reader = csv.reader(taken, delimiter=delimiter, strict=True)
    header = next(reader)
    while True:
        taken.lines.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _broken_csv(taken, error)
            continue
        if fields:
            yield _csv_row(header, fields, taken)


class _Taken:
    """Lines of a text stream, remembering those that the CSV reader took for its present row."""

    def __init__(self, first: str, rest: io.TextIOWrapper) -> None:
        self.first: str | None = first
        self.rest = rest
        self.lines: list[str] = []

    def __iter__(self) -> _Taken:
        return self

    def __next__(self) -> str:
        line, self.first = (self.first, None) if self.first is not None else (next(self.rest), None)
        self.lines.append(line)
        return line

    @property
    def raw(self) -> str | bytes:
        """The lines as they stood: text, or bytes where they are not UTF-8."""
        raw = "".join(self.lines).rstrip("\r\n").encode("utf-8", "surrogateescape")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw


def _broken_csv(taken: _Taken, error: csv.Error) -> RawRow:
    if "unexpected end" in str(error):
        raise InputError(f"a quote is opened and never closed: {taken.lines[0][:60]!r}; is the file cut short?")
    return RawRow(taken.raw, problem=Unusable("not_csv", str(error)))


def _csv_row(header: list[str], fields: list[str], taken: _Taken) -> RawRow:
    if isinstance(taken.raw, bytes):
        return RawRow(taken.raw, problem=Unusable("not_utf8"))
    if len(fields) != len(header):
        return RawRow(taken.raw, problem=Unusable("not_csv", f"{len(fields)} fields, {len(header)} in the header"))
    return _row(dict(zip(header, fields, strict=True)))


def parquet(stream: BinaryIO, start: int = 0) -> Iterator[RawRow]:
    """The rows of a Parquet file, from row group `start` on."""
    try:
        file = pa.parquet.ParquetFile(_seekable(stream))
        for batch in file.iter_batches(_ROWS_AT_ONCE, range(start, file.num_row_groups)):
            yield from _batch_rows(batch)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the Parquet data is damaged or cut short ({error})") from None


def parquet_starts(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """(rows before, number) of every row group, and of the file's end."""
    try:
        metadata = pa.parquet.ParquetFile(_seekable(stream)).metadata
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the Parquet data is damaged or cut short ({error})") from None
    sizes = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    yield from ((rows, number) for number, rows in enumerate(accumulate(sizes, initial=0)))


def arrow_file(stream: BinaryIO) -> Iterator[RawRow]:
    """The rows of an Arrow IPC file."""
    try:
        reader = pa.ipc.open_file(_seekable(stream))
        for number in range(reader.num_record_batches):
            yield from _batch_rows(reader.get_batch(number))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the Arrow file is damaged or cut short ({error})") from None


def arrow_stream(stream: BinaryIO) -> Iterator[RawRow]:
    """The rows of an Arrow IPC stream (what `datasets` writes), refused where its end marker is missing."""
    seekable = _seekable(stream)
    seekable.seek(-len(_END_OF_STREAM), io.SEEK_END)
    if seekable.read() != _END_OF_STREAM:
        raise InputError("the Arrow stream has no end marker: the file is cut short")
    seekable.seek(0)
    try:
        for batch in pa.ipc.open_stream(seekable):
            yield from _batch_rows(batch)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the Arrow stream is damaged ({error})") from None


def _seekable(stream: BinaryIO) -> BinaryIO:
    """The stream itself if it is a plain file; a decompressed one is held in memory."""
    return stream if isinstance(getattr(stream, "raw", None), io.FileIO) else io.BytesIO(stream.read())


def _batch_rows(batch: pa.RecordBatch) -> Iterator[RawRow]:
    _check_offsets(batch)
    to_row = _plain_row if all(_is_plain(field.type) for field in batch.schema) else _row
    try:
        yield from map(to_row, batch.to_pylist())
    except UnicodeDecodeError:  # before the first row is yielded: the whole batch is converted at once
        yield from (_lone_row(batch.slice(number, 1)) for number in range(batch.num_rows))


def _check_offsets(batch: pa.RecordBatch) -> None:
    """ArrowInvalid where the buffers lie: reading them would leave the process's memory."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):  # a text that is not UTF-8 costs its row only
            raise


def _lone_row(batch: pa.RecordBatch) -> RawRow:
    try:
        return _row(batch.to_pylist()[0])
    except UnicodeDecodeError as error:
        return RawRow(error.object, problem=Unusable("not_utf8", f"byte {error.start} of a text"))


def _row(columns: Columns) -> RawRow:
    return _plain_row({name: plain(value) for name, value in columns.items()})


def _plain_row(columns: Columns) -> RawRow:
    return RawRow(columns, columns)


def _is_plain(type: pa.DataType) -> bool:
    """Whether all values of an Arrow type are what `plain` would make of them."""
    if pa.types.is_struct(type):
        return all(_is_plain(field.type) for field in type)
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        return _is_plain(type.value_type)
    return any(is_kind(type) for is_kind in _PLAIN)


_PLAIN = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_null)
