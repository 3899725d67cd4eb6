"""A plan written by several processes: each reads a part of the source, and writes the files that begin there.

A part begins at a mark: a line of JSON Lines, a row group of Parquet, or a compressed file's first row. A mark says how
many rows stand before it, so that a process passes over those of the file before its first, and writes what one
process alone would write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from neat_data.cores import usable_cores
from neat_data.progress import Watcher
from neat_data.scoring.plan import Seen, excluding, write_files
from neat_data.scoring.workers import Work, run_in_processes
from neat_data.sources import Mark, Parts, Source
from neat_data.sources.exclude import Exclusion
from neat_data.sources.files.compressed import compression

WORTH_IT = 32_000_000  # bytes: below that, processes take longer to start than one of them takes to read
_EVERY = 8_192  # rows of JSON Lines between two marks


@dataclass(frozen=True)
class PlanInParts:
    """Everything that a process needs to write its parts of a plan; picklable.

    Attributes:
        rows: of the plan: those of the source, or as many as were asked for.
    """

    source: Source
    parts: Parts
    exclusion: Exclusion | None
    file_rows: int
    rows: int
    folder: Path

    def files(self) -> list[tuple[Mark, range]]:
        """The parts of the source that a file of the plan begins in, each with its files."""
        marks = self.parts.marks
        firsts = [-(-mark.row // self.file_rows) for mark in marks]
        ends = [*firsts[1:], -(-self.parts.rows // self.file_rows)]
        last = -(-self.rows // self.file_rows)
        ranges = (range(first, min(end, last)) for first, end in zip(firsts, ends, strict=True))
        return [(mark, files) for mark, files in zip(marks, ranges, strict=True) if files]

    def __call__(self, device: str) -> Work[Seen]:
        """The function that writes a part, in the process that calls this."""
        parts = self.files()
        return lambda part, advance: self._write(*parts[part])

    def _write(self, mark: Mark, files: range) -> Seen:
        before = files.start * self.file_rows - mark.row
        rows = islice(self.source.rows_from(mark, self.parts.first_rows), before, self.rows - mark.row)
        kept = excluding(rows, self.exclusion.reason) if self.exclusion else rows
        return write_files(self.folder, iter(kept), files, self.file_rows)


def write_in_parts(
    folder: Path,
    file_rows: int,
    source: Source,
    exclusion: Exclusion | None,
    limit: int | None,
    workers: int,
    watch: Watcher,
) -> Seen | None:
    """Write all files of a plan by several processes; None where one does it as well, and what keeps it so is told.

    Args:
        folder: of the plan, empty.
        file_rows: source rows of a file.
        limit: source rows at most.
        workers: processes at most; 0 takes one for every core.
    """
    cores = workers or usable_cores()
    if cores < 2 or source.bytes < WORTH_IT:
        return None
    parts = _parts(source, watch.say)
    if parts is None:
        return None
    rows = parts.rows if limit is None else min(limit, parts.rows)
    plan = PlanInParts(source, parts, exclusion, file_rows, rows, folder)
    if (count := len(plan.files())) < 2:
        return None
    seen: dict[int, Seen] = {}

    def done(part: int, written: Seen) -> None:
        seen[part] = written
        watch.advance(source.bytes // count)

    run_in_processes(range(count), plan, ["cpu"] * min(cores, count), advance=_nothing, done=done, warn=watch.say)
    source.require_unchanged()
    return joined(seen[part] for part in range(count))


def joined(parts: Iterable[Seen]) -> Seen:
    """What was gathered over all parts, in their order."""
    whole = Seen()
    for part in parts:
        whole.join(part)
    return whole


def _parts(source: Source, say: Callable[[str], None]) -> Parts | None:
    """Where the source may be begun, at more than one place."""
    (file, _), *others = source.files
    if (packing := compression(file.path)) and not others:
        say(f"{file.key} is one {packing} stream, which one process reads; several files are read side by side")
        return None
    parts = source.parts(_EVERY)
    if parts is None:
        say("the source is read by one process: its rows are counted only by reading them")
    return parts if parts and len(parts.marks) > 1 else None


def _nothing(rows: int, tokens: int) -> None: ...
