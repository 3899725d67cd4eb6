"""A plan written in parts is that of one process, byte for byte, wherever parts are cut and whoever is first."""

from __future__ import annotations

import gzip
import json
import random
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neat_data.errors import InputError
from neat_data.progress import Silent
from neat_data.scoring import plan_in_parts
from neat_data.scoring.plan import Plan, Seen, make_plan
from neat_data.scoring.plan_in_parts import PlanInParts, joined, write_in_parts
from neat_data.sources import Source, open_source

QUERIES = 9  # so that most rows repeat one that a part before them holds


def rows(first: int, count: int) -> list[dict[str, str]]:
    asked = [f"\n\nHuman: Question {number % QUERIES}?\n\nAssistant:" for number in range(first, first + count)]
    return [{"chosen": f"{query} yes {first}", "rejected": f"{query} no"} for query in asked]


def lines(parts: list[dict[str, str]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of JSON Lines with a BOM, blank lines and rejects, one behind gzip, and one of Parquet."""
    folder = tmp_path / "source"
    folder.mkdir()
    broken = b'\xef\xbb\xbf\n{"chosen": 1}\n\n \r\nno JSON\n' + lines(rows(0, 21)) + b"\n" + lines(rows(21, 9))[:-1]
    (folder / "a.jsonl").write_bytes(broken)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows(30, 17))))
    pq.write_table(pa.Table.from_pylist(rows(47, 23)), folder / "c.parquet", row_group_size=6)
    (folder / "d.jsonl").write_bytes(lines(rows(70, 3)))
    return folder


def by_one(source: Source, out: Path, limit: int | None, shard_rows: int) -> Plan:
    return make_plan(lambda: islice(source.rows(), limit), out, {"rows": "f"}, shard_rows=shard_rows)


def in_parts(source: Source, out: Path, limit: int | None, shard_rows: int, every: int) -> Plan:
    """The plan of parts that are written in any order, here in this process."""

    def spread(folder: Path, file_rows: int) -> Seen:
        parts = source.parts(every)
        assert parts is not None
        plan = PlanInParts(source, parts, None, file_rows, min(limit or parts.rows, parts.rows), folder)
        order = list(range(len(plan.files())))
        random.Random(0).shuffle(order)
        seen = {part: plan("cpu")(part, lambda rows, tokens: None) for part in order}
        return joined(seen[part] for part in sorted(order))

    return make_plan(lambda: iter(()), out, {"rows": "f"}, shard_rows=shard_rows, spread=spread)


def content(plan: Plan) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in plan.folder.iterdir()}


@pytest.mark.parametrize(("shard_rows", "every"), [(1, 1), (4, 3), (5, 20), (7, 7), (100, 2)])
@pytest.mark.parametrize("limit", [None, 38])
def test_the_plan_is_that_of_one_process(
    folder: Path, tmp_path: Path, limit: int | None, shard_rows: int, every: int
) -> None:
    source = open_source(str(folder))
    alone = by_one(source, tmp_path / "alone", limit, shard_rows)
    assert alone.rows == (limit or 75)
    assert content(in_parts(source, tmp_path / "parts", limit, shard_rows, every)) == content(alone)


def test_reading_begins_at_a_line_a_row_group_or_a_compressed_file(folder: Path) -> None:
    parts = open_source(str(folder)).parts(every=10)
    assert parts is not None
    assert [(mark.file, mark.before) for mark in parts.marks] == [
        *((0, row) for row in (0, 10, 20, 30)),
        (1, 0),
        *((2, row) for row in (0, 6, 12, 18)),
        (3, 0),
    ]


def test_a_file_that_does_not_tell_its_rows_is_read_by_one_process(folder: Path) -> None:
    (folder / "e.json").write_text(json.dumps(rows(0, 3)))
    assert open_source(str(folder)).parts(every=10) is None


def test_a_compressed_file_that_is_cut_is_refused_as_by_one_process(folder: Path) -> None:
    source = open_source(str(folder))
    file = folder / "b.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"b\.jsonl\.gz: the gzip data is damaged or cut short"):
        source.parts(every=10)


class Heard(Silent):
    """Lines that were said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_one_compressed_stream_is_read_by_one_process_which_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_in_parts, "WORTH_IT", 0)
    source, heard = open_source(str(folder / "b.jsonl.gz")), Heard()
    assert write_in_parts(tmp_path, 4, source, None, None, 2, heard) is None
    assert heard.lines == [
        "b.jsonl.gz is one gzip stream, which one process reads; several files are read side by side"
    ]


@pytest.mark.slow
def test_processes_write_the_plan_of_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_in_parts, "WORTH_IT", 0)
    monkeypatch.setattr(plan_in_parts, "_EVERY", 5)
    source = open_source(str(folder))
    alone = by_one(source, tmp_path / "alone", None, 4)
    parted = make_plan(
        lambda: iter(()),
        tmp_path / "parts",
        {"rows": "f"},
        shard_rows=4,
        spread=lambda *files: write_in_parts(*files, source, None, None, 2, Silent()),
    )
    assert content(parted) == content(alone)


def test_a_source_that_changes_while_its_parts_are_read_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(numbers, make_work, devices, *, advance, done, warn) -> None:
        work = make_work("cpu")
        for number in numbers:
            done(number, work(number, advance))
        with (folder / "a.jsonl").open("ab") as file:
            file.write(b"\n")

    monkeypatch.setattr(plan_in_parts, "WORTH_IT", 0)
    monkeypatch.setattr(plan_in_parts, "_EVERY", 5)
    monkeypatch.setattr(plan_in_parts, "run_in_processes", here)
    with pytest.raises(InputError, match=r"a\.jsonl: changed while it was read"):
        write_in_parts(tmp_path, 4, open_source(str(folder)), None, None, 2, Silent())
