"""From a file, folder, glob or hub dataset to understood rows.

`open_source` finds the files and their shape; `Source.rows` yields every source row exactly once, as a `Row` or as a
`Reject` with its reason. Grouping rows into records is left to the caller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.sources.files import hub, locate, remote
from neat_data.sources.files import read as data_files
from neat_data.sources.files.compressed import OnRead, nobody, sha256
from neat_data.sources.files.locate import DataFile
from neat_data.sources.row import Place, RawRow, Reject, Row, SourceAnswer, Unusable
from neat_data.sources.shapes import registry
from neat_data.sources.shapes.values import plain
from neat_data.store.address import url_of

__all__ = ["Place", "Reject", "Row", "Source", "SourceAnswer", "open_source"]

_ROWS_TO_RECOGNISE = 100


_State = tuple[int, int, int] | None


def _state(path: Path) -> _State:
    """What changes when somebody writes to a file or puts another in its place; None where it is gone."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns


@dataclass(frozen=True)
class Source:
    """Data files with their shapes. `fingerprint` comes from content and settings alone, never from a path."""

    name: str
    format: str
    fingerprint: dict[str, Any]
    files: Sequence[tuple[DataFile, registry.Shape]] = field(repr=False)
    as_opened: Mapping[Path, _State] = field(repr=False, default_factory=dict)

    def require_unchanged(self) -> None:
        """Raise InputError where a file is another than the one whose hash is in the fingerprint.

        To be called behind the last row that is read.
        """
        for path, state in self.as_opened.items():
            if _state(path) != state:
                raise InputError(f"{path}: changed while it was read.\nRun the same command again, once it is whole.")

    @property
    def bytes(self) -> int:
        """The size of all files on disk."""
        return sum(file.path.stat().st_size for file, _ in self.files)

    def rows(self, on_read: OnRead = nobody) -> Iterator[Row | Reject]:
        """Every source row, in source order; `on_read` hears of the bytes that were read of `bytes`.

        Raises:
            InputError: a file is cut short or damaged.
        """
        next_row = defaultdict[PlaceKey, int](int)
        for file, shape in self.files:
            key = _key(file)
            stored = data_files.rows(file.path, on_read)
            for row in shape.gather(stored) if shape.gather else stored:
                for part in _unfolded(row, shape):
                    yield _understand(part, shape, Place(*key, next_row[key]))
                    next_row[key] += 1

    def parts(self, every: int) -> Parts | None:
        """Where reading may begin inside the source; None where some file or shape does not tell its rows in advance.

        Args:
            every: rows of a JSON Lines file between two such places.

        Raises:
            InputError: a file is cut short or damaged.
        """
        if any(shape.gather or shape.unfold for _, shape in self.files):
            return None
        marks: list[Mark] = []
        first_rows: list[int] = []
        row, next_row = 0, defaultdict[PlaceKey, int](int)
        for number, (file, _) in enumerate(self.files):
            if (starts := data_files.starts(file.path, every)) is None:
                return None
            *begun, (size, _) = starts
            marks += [Mark(row + before, number, start, before) for before, start in begun]
            first_rows.append(next_row[_key(file)])
            next_row[_key(file)] += size
            row += size
        return Parts(tuple(marks), tuple(first_rows), row)

    def rows_from(self, mark: Mark, first_rows: Sequence[int]) -> Iterator[Row | Reject]:
        """The rows from a mark of `parts` on."""
        start, before = mark.start, mark.before
        for number in range(mark.file, len(self.files)):
            file, shape = self.files[number]
            for row, raw in enumerate(data_files.rows(file.path, start=start), first_rows[number] + before):
                yield _understand(raw, shape, Place(*_key(file), row))
            start = before = 0


PlaceKey = tuple[str, str | None, str | None]


def _key(file: DataFile) -> PlaceKey:
    return file.name, file.subset, file.split


@dataclass(frozen=True, slots=True)
class Mark:
    """A place inside a source where reading may begin.

    Attributes:
        row: rows of the source before it.
        file: the number of its file.
        start: where in that file, as `files.read.rows` takes it.
        before: rows of that file before it.
    """

    row: int
    file: int
    start: int
    before: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Where reading a source may begin; for every file the number of its first row in its place; all rows."""

    marks: tuple[Mark, ...]
    first_rows: tuple[int, ...]
    rows: int


def open_source(
    spec: str,
    *,
    subset: str | None = None,
    split: str | None = None,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    queries: bool = False,
    answers: bool = False,
    on_read: OnRead = nobody,
) -> Source:
    """Open `spec`: a file, folder or glob, here or at a URL, or else the hub dataset `ID` or `ID@REVISION`.

    A folder or hub dataset is read in its split `train` unless `split` names another (or `all`); a file or glob is
    read whole unless `split` is given.

    Args:
        format: `auto` or one of `registry.NAMES`.
        columns: where the words of `shapes.columns.WORDS` stand in a row, for a shape that the table lacks.
        ignore: columns that stay in `meta` although they change what is asked (`context.REFUSED`).
        queries: files that hold queries alone are read as well (`registry.QUERY_SHAPES`); their rows have no answers.
        answers: files of one answer a row are read as well (`registry.RESPONSE_SHAPES`).
        on_read: hears of bytes that are read to know the files' formats, shapes and hashes.

    Raises:
        InputError: nothing is there, or nothing in it can be read as preference data.
    """
    known = registry.QUERY_SHAPES if queries else registry.RESPONSE_SHAPES if answers else registry.SHAPES
    wanted = _wanted(format, columns, known, queries, answers)
    chosen, folder, revision = _found(spec, subset, split)
    as_opened = {file.path: _state(file.path) for file in chosen}  # before anything is read
    ignored = frozenset(ignore)
    shaped = [(file, replace(wanted or _recognise(file, known, on_read), ignored=ignored)) for file in chosen]
    shape_names = "+".join(dict.fromkeys(shape.name for _, shape in shaped))
    return Source(
        name=spec.rstrip("/").rpartition("/")[2] if revision is None else chosen[0].name,
        format=shape_names,
        fingerprint={
            "name": chosen[0].name if revision else None,
            "files": {file.key: sha256(file.path, on_read) for file in chosen},
            "revision": revision,
            "subset": subset,
            "split": split or ("train" if revision or folder else None),
            "format": shape_names,
            **({"columns": dict(columns)} if columns else {}),
            **({"ignore": sorted(ignored)} if ignored else {}),
        },
        files=shaped,
        as_opened=as_opened,
    )


def _found(spec: str, subset: str | None, split: str | None) -> tuple[list[DataFile], bool, str | None]:
    """The files of a source, whether it is a folder, and of the hub its revision."""
    if url_of(spec):
        return *remote.find(spec, subset, split), None
    if (local := locate.local(spec, subset, split)) is not None:
        return local, Path(spec).expanduser().is_dir(), None
    files, revision = hub.find(spec, subset, split)
    return files, False, revision


def _wanted(
    format: str, columns: Mapping[str, str] | None, known: Sequence[registry.Shape], queries: bool, answers: bool
) -> registry.Shape | None:
    """The shape that the user names or describes, None where the columns shall tell."""
    if columns and format != "auto":
        raise InputError("the shape is said twice", advice="say either {format} or {columns}")
    if columns:
        return registry.mapped(columns, answers=answers, alone=queries)
    return None if format == "auto" else registry.named(format, known)


def _recognise(file: DataFile, known: Sequence[registry.Shape], on_read: OnRead) -> registry.Shape:
    """The one of the `known` shapes that a file has, by the columns of its first readable rows."""
    readable = (row.columns for row in data_files.rows(file.path, on_read, on_read) if row.columns is not None)
    rows = list(islice(readable, _ROWS_TO_RECOGNISE))
    if not any(rows):
        raise InputError(f"{file.key}: holds no row that can be read; is it JSON Lines, JSON, CSV, Parquet or Arrow?")
    return registry.recognise(rows, file.key, known)


def _unfolded(row: RawRow, shape: registry.Shape) -> Iterator[RawRow]:
    if shape.unfold is None or row.columns is None:
        yield row
        return
    for columns in shape.unfold(row.columns):
        yield replace(row, columns=columns)


def _understand(row: RawRow, shape: registry.Shape, place: Place) -> Row | Reject:
    try:
        if row.problem or row.columns is None:
            raise row.problem or Unusable("not_json")
        made = shape.understand(row.columns)
        meta = plain(made.meta)
    except Unusable as problem:
        return Reject(place, problem.reason, problem.detail, row.raw)
    except RecursionError:  # what the JSON decoder takes can still be too deep for walking through it
        return Reject(place, "not_json", "nested too deeply", row.raw)
    return Row(place, made.messages, made.answers, made.order, made.verdict, meta, row.source)
