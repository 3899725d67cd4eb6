"""data/sample is what its data sheet says: counts, planted rows, and text that stands in no real data set here."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from neat_data.dialogue import parse, render
from neat_data.record import query_id
from neat_data.sources import Row, open_source

SAMPLE = Path(__file__).resolve().parents[3] / "data" / "sample"
CLEAN = ("helpful.train.jsonl", "harmless.train.jsonl")
NGRAM = 13


def table(header: str) -> list[list[str]]:
    """The cells of every row of the data sheet's table that begins with `header`."""
    sheet = (SAMPLE / "README.md").read_text(encoding="utf-8")
    block = sheet[sheet.index(header) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block]


@cache
def source_rows(spec: str) -> list[object]:
    return list(open_source(str(SAMPLE / spec)).rows())


def outcome(row: object) -> str:
    """What happens to a row, in the words of the data sheet."""
    if not isinstance(row, Row):
        return f"rejected: `{row.reason}`"  # type: ignore[attr-defined]
    left_out = ", ".join(f"`{item['reason']}`" for item in row.meta.get("left_out", ()))
    return f"stored, left out: {left_out}" if left_out else "stored"


def clean_rows() -> list[dict[str, str]]:
    lines = [line for name in CLEAN for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def test_at_least_300_clean_rows_half_of_them_multi_turn() -> None:
    rows = clean_rows()
    multi_turn = [row for row in rows if len(parse(row["chosen"])) > 2]
    assert len(rows) >= 300
    assert len(multi_turn) >= len(rows) / 2


def test_clean_rows_alternate_round_trip_and_share_their_query() -> None:
    for row in clean_rows():
        sides = [parse(row[side]) for side in ("chosen", "rejected")]
        assert [render(side) for side in sides] == [row["chosen"], row["rejected"]]
        assert sides[0][:-1] == sides[1][:-1]
        assert [turn.role for turn in sides[0]] == ["user", "assistant"] * (len(sides[0]) // 2)


def test_the_shorter_response_is_often_the_chosen_one() -> None:
    """Length alone must not tell the better response; in half of real HH rows it does not."""
    rows = clean_rows()
    shorter = sum(len(row["chosen"]) < len(row["rejected"]) for row in rows)
    assert len(rows) / 3 < shorter < len(rows) / 2


@pytest.mark.parametrize("cells", table("| read |"), ids=lambda cells: cells[0])
def test_counts_are_those_of_the_data_sheet(cells: list[str]) -> None:
    rows = source_rows(cells[0])
    stored = [row for row in rows if isinstance(row, Row)]
    queries = {query_id(row.messages) for row in stored}
    multi_turn = sum(any(message.role == "assistant" for message in row.messages) for row in stored)
    counted = [len(rows), len(stored), len(rows) - len(stored), len(queries), multi_turn]
    assert cells[1:-1] == [str(count) for count in counted]
    assert cells[-1] == f"`{open_source(str(SAMPLE / cells[0])).format}`"


@pytest.mark.parametrize("name", sorted({cells[0] for cells in table("| file |")} | set(CLEAN)))
def test_every_planted_row_is_stored_or_rejected_as_stated_and_every_other_row_is_stored(name: str) -> None:
    planted = {int(row): happens for file, row, _, happens in table("| file |") if file == name}
    rows = source_rows(name)
    assert [outcome(row) for row in rows] == [planted.get(number, "stored") for number in range(len(rows))]
    assert max(planted, default=-1) < len(rows)


def test_every_file_of_the_sample_is_on_the_data_sheet() -> None:
    present = {path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*.json*")}
    assert present == {cells[0] for cells in table("| read |")} - {"*.train.jsonl"}


def test_the_bytes_of_the_odd_file_are_as_odd_as_stated() -> None:
    """An editor or a checkout that mends line endings would take the oddities out."""
    lines = (SAMPLE / "odd.train.jsonl").read_bytes().split(b"\n")
    assert lines[0].startswith(b"\xef\xbb\xbf{")
    assert lines[-1].endswith(b"}")
    assert lines[-2] == b""
    assert sum(line.endswith(b"\r") for line in lines) == 1
    assert sum("\ufffd" in line.decode(errors="replace") for line in lines) == 1


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def ngrams(text: str) -> Iterator[str]:
    tokens = words(text)
    return (" ".join(tokens[start : start + NGRAM]) for start in range(len(tokens) - NGRAM + 1))


def real_turns(shared_data: Path) -> Iterator[str]:
    """Every distinct turn of the real HH files."""
    seen: set[str] = set()
    for path in sorted(shared_data.rglob("*h*/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for row in map(json.loads, stream):
                turns = {turn.text.strip() for side in ("chosen", "rejected") for turn in parse(row[side])}
                yield from turns - seen
                seen |= turns


def test_no_text_of_the_sample_stands_in_the_real_data(shared_data: Path) -> None:
    """No run of 13 words in common, and no whole turn of five words or more."""
    turns = {turn.text.strip() for row in clean_rows() for side in row.values() for turn in parse(side)}
    turns |= {answer.text for row in source_rows("odd.train.jsonl") if isinstance(row, Row) for answer in row.answers}
    long = {turn.casefold() for turn in turns if len(words(turn)) >= 5}
    runs = {run for turn in turns for run in ngrams(turn)}
    real = list(real_turns(shared_data))
    assert len(real) > 20_000
    assert [turn for turn in real if turn.casefold() in long] == []
    assert [run for turn in real for run in ngrams(turn) if run in runs] == []
