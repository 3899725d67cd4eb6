"""Source rows -> the plan that `score` works from.

One pass reads the source, and writes under `.plan/` every understood row as a record of its own and every other row
as a reject, cut into files of a fixed number of source rows. A shard is one of them, or several where the rows prove to
be many. Rows that repeat an earlier row's query are found on an array of 16-byte ids; `Plan.records` then folds them
into the record of the first, wherever that stands. Workers map these files and never see the source, so a source that
breaks off fails here, before any model is loaded.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import SCHEMA, Label, Record, Response, canonical_json, from_table
from neat_data.scoring.unscored import unscored
from neat_data.sources.row import Place, Reject, Row
from neat_data.sources.shapes import verdicts
from neat_data.sources.shapes.ranked import MOST_RESPONSES
from neat_data.store.atomic import write_atomically
from neat_data.store.claim import read, readable
from neat_data.store.documents import Settings
from neat_data.store.shard import read_shard, write_shard
from neat_data.store.typed import require_counts

FOLDER = ".plan"
FORMAT_VERSION = 2
FILE_ROWS = 512  # source rows of a plan's file, and of a shard where they are not many
MOST_SHARDS = 2_048  # of a dataset, as far as their size allows
SHARD_BYTES = 64 << 20  # of the plan's files that a shard of more rows than FILE_ROWS is made of
_FILE = "plan.json"
_ROW = SCHEMA.append(pa.field("number", pa.int64()))
_REPEAT = pa.schema([("row", pa.int64()), ("first", pa.int64())])
_REJECT = pa.schema(
    [
        ("name", pa.string()),
        ("subset", pa.string()),
        ("split", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.binary()),
    ]
)


def merge(records: Iterable[Record]) -> Record:
    """Records of one query as one: the first's, with the distinct responses and all labels of those that follow.

    Later metadata that differs from the first's is kept in a list under `repeats`. A response that occurs twice keeps
    the first reward that any of them carries.
    """
    first, *others = records
    if not others:
        return first
    responses: dict[str, Response] = {}
    for record in (first, *others):
        for response in record.responses:
            known = responses.setdefault(response.response_id, response)
            if known.reward is None and response.reward is not None:
                responses[response.response_id] = response
    labels = _compared([first, *others])
    repeats = [json.loads(other.meta) for other in others if other.meta and other.meta != first.meta]
    meta = first.meta
    if repeats:
        meta = canonical_json({**json.loads(first.meta or "{}"), "repeats": repeats})
    return replace(first, responses=tuple(responses.values()), labels=labels, meta=meta)


def _compared(records: Sequence[Record]) -> tuple[Label, ...]:
    """The labels of all records; rows of one scored answer each, which say nothing alone, order it at the last one."""
    rewards: dict[str, float] = {}
    last = -1
    for number, record in enumerate(records):
        if (scored := one_scored(record)) is not None:
            rewards.setdefault(record.responses[0].response_id, scored)
            last = number
    ids = list(rewards) if len(rewards) <= MOST_RESPONSES else []
    order = tuple(ids[position] for position in verdicts.order([rewards[identifier] for identifier in ids]))
    return tuple(
        replace(label, order=order) if number == last else label
        for number, record in enumerate(records)
        for label in record.labels
    )


def one_scored(record: Record) -> float | None:
    """The score of a row that holds one answer with it and says no more; None for every other row."""
    says = any(label.order or label.verdict is not None for label in record.labels)
    return record.responses[0].reward if len(record.responses) == 1 and not says else None


def repeated(ids: np.ndarray, at_once: int = 1 << 20) -> np.ndarray:
    """Which rows repeat an earlier row's query.

    Args:
        ids: (rows, 2) uint64, the query ids; a row of zeros stands for a reject.
        at_once: rows whose ids are sorted at once, on average; more are parted by their hash.

    Returns:
        (repeats, 2) int64: the repeating row and the first row with its query, in order of the repeating row.
    """
    count = 1 + len(ids) // at_once
    part_of, usable = ids[:, 0] % np.uint64(count), ids.any(axis=1)
    parts = (np.flatnonzero((part_of == part) & usable) for part in range(count))
    pairs = np.concatenate([_repeated_among(ids, rows) for rows in parts])
    return pairs[np.argsort(pairs[:, 0])]


def _repeated_among(ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The same among some rows, in any order."""
    order = rows[np.lexsort((rows, ids[rows, 1], ids[rows, 0]))]
    same = (ids[order][1:] == ids[order][:-1]).all(axis=1)
    starts = np.concatenate(([True], ~same)) if len(order) else np.zeros(0, bool)
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    return np.stack([order, first], axis=1)[~starts]


@dataclass(frozen=True)
class Plan:
    """A plan on disk.

    Attributes:
        folder: `.plan` inside the dataset's folder.
        rows: source rows, those rejected included.
        usable: source rows that were understood.
        file_rows: source rows of a file of the plan.
        shard_rows: source rows of a shard, a multiple of these.
        contradicted: rows whose own scores say otherwise than their verdict.
        meta: columns that have no place in a record and went to its `meta`.
        settings: everything that decides what the rows are, and how they are cut.
    """

    folder: Path
    rows: int
    usable: int
    file_rows: int
    shard_rows: int
    contradicted: int = 0
    meta: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """Number of shards, at least one."""
        return max(1, -(-self.rows // self.shard_rows))

    def source_rows(self, shard: int) -> int:
        """Source rows that this shard accounts for."""
        return min(self.shard_rows, self.rows - shard * self.shard_rows)

    @cached_property
    def _repeats(self) -> np.ndarray:  # (repeats, 2): repeating row, first row
        table = read_shard(self.folder / "repeats.arrow", _REPEAT)
        return np.stack([table["row"].to_numpy(), table["first"].to_numpy()], axis=1)

    @cached_property
    def _followers(self) -> np.ndarray:  # the same, in order of the first rows
        return self._repeats[np.argsort(self._repeats[:, 1], kind="stable")]

    def _between(self, repeats: np.ndarray, column: int, shard: int) -> np.ndarray:
        """Those of `repeats`, sorted by this column, whose row there lies in the shard."""
        start, end = np.searchsorted(repeats[:, column], [shard * self.shard_rows, (shard + 1) * self.shard_rows])
        return repeats[start:end]

    @property
    def repeated_rows(self) -> int:
        """Source rows whose query an earlier row asked."""
        return len(self._repeats)

    def records(self, shard: int) -> list[Record]:
        """The records of a shard, responses unscored and in source order; repeats from later shards folded in."""
        table, numbers = self._rows(self._files(shard))
        leave = set(self._between(self._repeats, 0, shard)[:, 0].tolist())
        followers: dict[int, list[Record]] = {}
        for row, head in self._between(self._followers, 1, shard).tolist():
            followers.setdefault(head, []).append(self._row(row))
        return [
            merge([record, *followers.get(number, ())])
            for number, record in zip(numbers, from_table(table), strict=True)
            if number not in leave
        ]

    def rejects(self, shard: int) -> list[Reject]:
        """The rows of a shard that could not be understood, or were left out by `--exclude`."""
        return [
            Reject(
                Place(row["name"], row["subset"], row["split"], row["row"]),
                row["reason"],
                row["detail"],
                row["raw"],
            )
            for file in self._files(shard)
            for row in read_shard(self.folder / f"rejects-{file:05d}.arrow", _REJECT).to_pylist()
        ]

    def _files(self, shard: int) -> range:
        """The numbers of the files that a shard is made of."""
        count, last = self.shard_rows // self.file_rows, max(1, -(-self.rows // self.file_rows))
        return range(shard * count, min((shard + 1) * count, last))

    def _rows(self, files: Iterable[int]) -> tuple[pa.Table, list[int]]:
        table = pa.concat_tables([read_shard(self.folder / f"rows-{file:05d}.arrow", _ROW) for file in files])
        return table.drop_columns("number"), table["number"].to_pylist()

    def _row(self, number: int) -> Record:
        table, numbers = self._rows([number // self.file_rows])
        return from_table(table.slice(numbers.index(number), 1))[0]


def make_plan(
    rows: Callable[[], Iterator[Row | Reject]],
    out: Path,
    settings: Settings,
    *,
    shard_rows: int | None,
    spread: Callable[[Path, int], Seen | None] = lambda folder, file_rows: None,
) -> Plan:
    """Write the plan for a source into `out/.plan`, or take up the one that lies there for the same source.

    Args:
        rows: gives the source's rows in source order.
        out: the dataset's folder, locked by the caller.
        settings: everything that decides what the rows are; a plan with others is made anew.
        shard_rows: source rows a shard; None has `files_a_shard` choose, or keeps what the plan that lies there says.
        spread: writes all files of so many rows into the plan's folder by several processes, or None where one shall.
    """
    folder = out / FOLDER
    done = folder / _FILE
    wanted = {"format_version": FORMAT_VERSION, "rows_settings": json.loads(canonical_json(settings))}
    if shard_rows is not None:
        wanted["shard_rows"] = shard_rows
    if done.exists():
        made = read(done) or {}
        if {key: made.get(key) for key in wanted} == wanted:
            with readable(done):
                return _plan(folder, made)
        done.unlink()  # first, so that a kill in between leaves no plan that looks whole
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file_rows = shard_rows or FILE_ROWS
    seen = spread(folder, file_rows) or write_files(folder, rows(), count(), file_rows)
    made = {**wanted, **_counted(folder, seen), "file_rows": file_rows, "version": version("neat-align")}
    made.setdefault("shard_rows", file_rows * files_a_shard(*_sizes(folder)))
    write_atomically(done, lambda file: file.write(canonical_json(made).encode()))
    return _plan(folder, made)


def files_a_shard(files: int, largest: int) -> int:
    """How many files of a plan make one shard: a power of two, the least that leaves `MOST_SHARDS` at most.

    It stays below that where `largest`, the bytes of the largest file, would let a shard grow over `SHARD_BYTES`.

    >>> files_a_shard(2_048, 400_000), files_a_shard(9_766, 400_000), files_a_shard(9_766, 20 << 20)
    (1, 8, 2)
    """
    count = 1
    while count * MOST_SHARDS < files and 2 * count * largest <= SHARD_BYTES:
        count *= 2
    return count


def _sizes(folder: Path) -> tuple[int, int]:
    """How many files of rows a plan has, and the bytes of the largest."""
    sizes = [file.stat().st_size for file in folder.glob("rows-*.arrow")]
    return len(sizes), max(sizes)


def _counted(folder: Path, seen: Seen) -> dict[str, Any]:
    """Write down which rows repeat a query, and return what `plan.json` says of the rows."""
    ids = np.frombuffer(seen.ids, np.uint64).reshape(-1, 2)
    pairs = repeated(ids)
    write_shard(folder / "repeats.arrow", pa.table([pairs[:, 0], pairs[:, 1]], schema=_REPEAT), {})
    counts = {"rows": len(ids), "usable": int(ids.any(axis=1).sum()), "contradicted": seen.contradicted}
    return {**counts, "meta": list(seen.meta)}


def planned(out: Path) -> Plan | None:
    """The plan that lies in a dataset's folder; None where there is none.

    Raises:
        InputError: it was made by another version, which may read rows otherwise, or is damaged.
    """
    file = out / FOLDER / _FILE
    made = read(file)
    if made is None:
        return None
    maker, own = made.get("version", "an earlier one"), version("neat-align")
    if (made.get("format_version"), maker) != (FORMAT_VERSION, own):
        raise InputError(
            f"{file}: was made by another version of neat-align ({maker}; this is {own}).",
            advice="Use one version on all machines, or plan again with {phase} plan.",
        )
    with readable(file):
        return _plan(out / FOLDER, made)


def _plan(folder: Path, made: dict[str, Any]) -> Plan:
    """The plan that `plan.json` describes."""
    require_counts(made, ("rows", "usable", "file_rows", "shard_rows", "contradicted"), ())
    if min(made["file_rows"], made["shard_rows"]) < 1:
        raise ValueError("a shard of no rows")
    counts = made["rows"], made["usable"], made["file_rows"], made["shard_rows"], made["contradicted"]
    settings = {**made["rows_settings"], "shard_rows": made["shard_rows"]}
    return Plan(folder, *counts, tuple(made["meta"]), settings)


@dataclass
class Seen:
    """What is gathered over all rows: 16 bytes of each row's query id (zeros for a reject), and what to tell of."""

    ids: bytearray = field(default_factory=bytearray)
    contradicted: int = 0
    meta: dict[str, None] = field(default_factory=dict)

    def join(self, later: Seen) -> None:
        """Add what was gathered over the rows behind these."""
        self.ids += later.ids
        self.contradicted += later.contradicted
        self.meta.update(later.meta)

    def add(self, row: Row | Reject, query_id: str | None) -> None:
        if query_id is None or isinstance(row, Reject):
            self.ids += bytes(16)
            return
        self.ids += bytes.fromhex(query_id)
        self.contradicted += _contradicted(row)
        self.meta.update(dict.fromkeys(name for name in row.meta if name != "left_out"))


def _contradicted(row: Row) -> bool:
    """Whether the source's scores put the worst answer of its verdict before the best."""
    rewards = [row.answers[position].reward for position in row.order]
    best, worst = (rewards[0], rewards[-1]) if rewards else (None, None)
    return best is not None and worst is not None and best < worst


def write_files(folder: Path, rows: Iterator[Row | Reject], files: Iterable[int], file_rows: int) -> Seen:
    """Write these consecutive files of a plan, fewer where the rows end; the first one even without a row."""
    seen = Seen()
    for file in files:
        part = list(islice(rows, file_rows))
        if part or file == 0:
            _write_file(folder, file, file * file_rows, part, seen)
        if len(part) < file_rows:
            break
    return seen


def _write_file(folder: Path, file: int, start: int, rows: list[Row | Reject], seen: Seen) -> None:
    """Write one file's rows and rejects, and add them to `seen`."""
    understood = {number: row for number, row in enumerate(rows, start) if isinstance(row, Row)}
    table = unscored(list(understood.values()))
    ids = dict(zip(understood, table["query_id"].to_pylist(), strict=True))
    for number, row in enumerate(rows, start):
        seen.add(row, ids.get(number))
    table = table.append_column("number", pa.array(understood, pa.int64()))
    rejects = [_reject_dict(row) for row in rows if isinstance(row, Reject)]
    write_shard(folder / f"rows-{file:05d}.arrow", table, {})
    write_shard(folder / f"rejects-{file:05d}.arrow", pa.Table.from_pylist(rejects, schema=_REJECT), {})


def _reject_dict(reject: Reject) -> dict[str, Any]:
    raw = reject.raw.encode("utf-8", "surrogatepass") if isinstance(reject.raw, str) else reject.raw
    place = reject.place
    return {
        "name": place.name,
        "subset": place.subset,
        "split": place.split,
        "row": place.row,
        "reason": reject.reason,
        "detail": reject.detail,
        "raw": raw,
    }


def excluding(rows: Iterable[Row | Reject], reason: Callable[[Any], str | None]) -> Iterator[Row | Reject]:
    """The same rows, those whose query `reason` names something against turned into rejects."""
    for row in rows:
        against = reason(row.messages) if isinstance(row, Row) else None
        if against is None or isinstance(row, Reject):
            yield row
        else:
            yield Reject(row.place, against, "the query occurs in an excluded dataset", row.raw)


def count_reasons(rejects: Iterable[Reject]) -> dict[str, int]:
    """How many rejects there are of each reason, by name."""
    return dict(sorted(Counter(reject.reason for reject in rejects).items()))
