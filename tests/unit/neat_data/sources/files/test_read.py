"""Bytes to rows: every container and packing, told by content, and what damage does to each."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from neat_data.errors import InputError
from neat_data.sources import Reject, Row, open_source


def dialogue(query: str, response: str) -> str:
    return f"\n\nHuman: {query}\n\nAssistant: {response}"


PAIRS = [
    {"chosen": dialogue(query, "Yes."), "rejected": dialogue(query, "No.")}
    for query in ("One?", 'Two, "quoted"\nand\r\nbroken?', "Drei – 三?")
]
TABLE = pa.Table.from_pylist(PAIRS)


def json_lines() -> bytes:
    return "".join(json.dumps(pair) + "\n" for pair in PAIRS).encode()


def json_array() -> bytes:
    return json.dumps(PAIRS, indent=2, ensure_ascii=False).encode()


def instances() -> bytes:
    return json.dumps({"type": "text_only", "instances": PAIRS}).encode()


def csv() -> bytes:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [f"{quoted(pair['chosen'])},{quoted(pair['rejected'])}\r\n" for pair in PAIRS]
    return ("chosen,rejected\r\n" + "".join(lines)).encode()


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(TABLE, sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


def arrow(writer: Callable[..., Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with writer(sink, TABLE.schema) as written:
        written.write_table(TABLE, max_chunksize=2)
    return sink.getvalue().to_pybytes()


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "lines": json_lines,
    "array": json_array,
    "instances": instances,
    "csv": csv,
    "parquet": parquet,
    "arrow file": lambda: arrow(pa.ipc.new_file),
    "arrow stream": lambda: arrow(pa.ipc.new_stream),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


def read(path: Path, content: bytes, **options: Any) -> list[Row | Reject]:
    path.write_bytes(content)
    return list(open_source(str(path), **options).rows())


def reasons(rows: list[Row | Reject]) -> list[str]:
    return [row.reason if isinstance(row, Reject) else "ok" for row in rows]


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv", "data.parquet", "no-ending"])
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_content_decides_the_format_whatever_the_name(tmp_path: Path, container: str, packing: str, name: str) -> None:
    rows = read(tmp_path / name, PACKINGS[packing](CONTAINERS[container]()))
    assert [row.messages[-1].content for row in rows if isinstance(row, Row)] == [
        "One?",
        'Two, "quoted"\nand\r\nbroken?',
        "Drei – 三?",
    ]
    assert [row.place.row for row in rows] == [0, 1, 2]
    assert all(row.place.name == name for row in rows)


@pytest.mark.parametrize("packing", ["gzip", "xz", "zstd"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_compressed_file_is_refused_by_name(tmp_path: Path, packing: str, share: float) -> None:
    noise = "".join(chr(33 + (number * number * 7919) % 89) for number in range(30_000))
    packed = PACKINGS[packing](json_lines() + json.dumps({"chosen": noise}).encode())
    with pytest.raises(InputError, match=rf"cut\.jsonl.*{packing}.*cut short"):
        read(tmp_path / "cut.jsonl", packed[: int(len(packed) * share)])


@pytest.mark.parametrize("container", ["array", "instances", "parquet", "arrow file", "arrow stream"])
def test_a_cut_container_is_refused_by_name(tmp_path: Path, container: str) -> None:
    content = CONTAINERS[container]()
    for end in (len(content) - 1, len(content) - 9, len(content) * 2 // 3):
        with pytest.raises(InputError, match=r"^cut"):
            read(tmp_path / "cut", content[:end])


def test_an_arrow_stream_cut_between_batches_is_refused(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, TABLE.schema)
    writer.write_table(TABLE)  # whole batches, and then no end marker
    with pytest.raises(InputError, match="no end marker"):
        read(tmp_path / "cut.arrow", sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    "content", [b"", b"\n\n  \n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0), b"[]", b"chosen,rejected\n"]
)
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl.*(empty|no row)"):
        read(tmp_path / "nothing.jsonl", content)


GOOD = json.dumps(PAIRS[0]).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"oops", "not_json"),
        (GOOD[:-1], "not_json"),
        (b"[1, 2]", "not_json"),
        (b'"text"', "not_json"),
        (b"null", "not_json"),
        (b"17", "not_json"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "not_json"),  # more digits than Python converts
        (b'{"deep": ' + b"[" * 100_000, "not_json"),
        (b'{"deep": ' + b"[" * 700 + b"]" * 700 + b"," + GOOD[1:], "not_json"),
        (b'{"chosen": "\xff\xfe", "rejected": ""}', "not_utf8"),
        (rb'{"chosen": "\ud83d", "rejected": "x"}', "bad_unicode"),
        (b'{"chosen": "a", "chosen": "b", "rejected": "c"}', "duplicate_key"),
        (b'{"chosen": null, "rejected": "x"}', "not_text"),
        (b'{"chosen": 5, "rejected": "x"}', "not_text"),
        (b'{"chosen": true, "rejected": "x"}', "not_text"),
        (b'{"chosen": {}, "rejected": "x"}', "not_text"),
        (b'{"chosen": NaN, "rejected": "x"}', "not_text"),
        (b'{"rejected": "x"}', "missing_column"),
    ],
)
def test_a_bad_line_costs_that_line_only(tmp_path: Path, line: bytes, reason: str) -> None:
    rows = read(tmp_path / "a.jsonl", b"\n".join([GOOD, line, GOOD]))
    assert reasons(rows) == ["ok", reason, "ok"]
    kept = line if reason == "not_utf8" else line.decode()
    assert rows[1].raw == kept
    assert rows[1].place.row == 1


def test_odd_values_in_other_columns_do_no_harm(tmp_path: Path) -> None:
    extra = b'"big": ' + b"9" * 400 + rb', "nan": NaN, "far": [1e999, -Infinity], "pair": "\ud83d\ude00"}'
    (row,) = read(tmp_path / "a.jsonl", GOOD[:-1] + b", " + extra)
    assert isinstance(row, Row)
    assert row.meta == {"big": int("9" * 400), "nan": None, "far": [None, None], "pair": "😀"}
    json.dumps(row.meta, allow_nan=False).encode()


def test_line_ends_byte_order_marks_and_blank_lines_are_no_part_of_a_row(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n   \n" + GOOD + b"\n\n" + GOOD
    rows = read(tmp_path / "a.jsonl", content)
    assert reasons(rows) == ["ok"] * 3
    assert [row.raw for row in rows] == [GOOD.decode()] * 3
    assert [row.place.row for row in rows] == [0, 1, 2]


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    pair = {"chosen": dialogue("a\u2028b\x85c", "x"), "rejected": dialogue("a\u2028b\x85c", "y")}
    (row,) = read(tmp_path / "a.jsonl", json.dumps(pair, ensure_ascii=False).encode())
    assert isinstance(row, Row)
    assert row.messages[0].content == "a\u2028b\x85c"


def test_a_file_that_begins_with_broken_lines_is_still_json_lines(tmp_path: Path) -> None:
    assert reasons(read(tmp_path / "a.txt", b"oops\n" + GOOD)) == ["not_json", "ok"]


def test_bad_elements_of_an_array_are_rejected_one_by_one(tmp_path: Path) -> None:
    content = b"[" + b", ".join([GOOD, b"null", b'{"chosen": 1, "rejected": 2}', GOOD]) + b"]"
    rows = read(tmp_path / "a.jsonl", content)
    assert reasons(rows) == ["ok", "not_json", "not_text", "ok"]
    assert rows[1].raw == "null"


def test_bad_lines_of_a_csv_file_are_rejected_one_by_one(tmp_path: Path) -> None:
    good = csv().split(b"\r\n", 1)[1].split(b'"\r\n')[0] + b'"\r\n'
    content = b"chosen,rejected\r\n" + good + b"one field\r\n" + b'"a"b,c\r\n' + b"\xff,x\r\n" + good
    rows = read(tmp_path / "a.csv", content)
    assert reasons(rows) == ["ok", "not_csv", "not_csv", "not_utf8", "ok"]
    assert rows[3].raw == b"\xff,x"
    with pytest.raises(InputError, match="never closed"):
        read(tmp_path / "b.csv", content + b'"open,')


def test_tabs_separate_where_the_header_has_them(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.tsv", b"prompt\tchosen\trejected\nHi, you\tHello\tBye\n")
    assert isinstance(rows[0], Row)
    assert rows[0].messages[0].content == "Hi, you"


@pytest.mark.parametrize(("number", "kept"), [(1, 1), (0.5, 0.5), (float("nan"), None)])
def test_a_rejected_row_of_a_table_is_kept_as_json(tmp_path: Path, number: float, kept: float | None) -> None:
    turns = [{"role": role, "content": content} for role, content in (("user", "Hi"), ("assistant", "Hello"))]
    good = {"chosen": turns, "rejected": [turns[0], {"role": "assistant", "content": "Bye"}], "n": number}
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.Table.from_pylist([good, {**good, "rejected": []}]), sink)
    understood, rejected = read(tmp_path / "a.parquet", sink.getvalue().to_pybytes())
    assert isinstance(understood, Row)
    assert understood.meta == {"n": kept}
    assert json.loads(rejected.raw) == {**good, "rejected": [], "n": kept}


def test_bytes_that_are_no_text_in_a_table_cost_their_row_only(tmp_path: Path) -> None:
    bad = pa.array([b"\xff\xfe"]).cast(pa.binary())
    column = pa.chunked_array([pa.array([PAIRS[0]["chosen"].encode()]), bad, pa.array([PAIRS[2]["chosen"].encode()])])
    chosen = pa.StringArray.from_buffers(3, *column.combine_chunks().buffers()[1:3])
    table = pa.table({"chosen": chosen, "rejected": [pair["rejected"] for pair in PAIRS]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    rows = read(tmp_path / "a.arrow", sink.getvalue().to_pybytes())
    assert reasons(rows) == ["ok", "not_utf8", "ok"]
    assert rows[1].raw == b"\xff\xfe"


def test_an_unknown_shape_lists_the_columns_found_and_the_nearest_mapping(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path / "a.jsonl", b'{"text": "x", "id": 1}\n')
    message = str(raised.value)
    assert "Columns found: text, id." in message
    assert "columns prompt=text,chosen=COLUMN,rejected=COLUMN" in message
    assert "one of the layouts with format" in message
    assert len(message.splitlines()) == 2


def test_a_format_can_be_chosen_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "not used", **PAIRS[0]}).encode()
    assert reasons(read(tmp_path / "a.jsonl", line)) == ["queries_differ"]
    (row,) = read(tmp_path / "a.jsonl", line, format="hh")
    assert isinstance(row, Row)
    assert row.meta == {"prompt": "not used"}
    with pytest.raises(InputError, match="known are auto, "):
        open_source(str(tmp_path / "a.jsonl"), format="hhh")


def test_the_fingerprint_is_of_content_and_settings_and_no_path(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_bytes(json_lines())
    first = open_source(str(tmp_path / "here")).fingerprint
    assert first == open_source(str(tmp_path / "there")).fingerprint
    assert str(tmp_path) not in json.dumps(first)
    assert first == open_source(str(tmp_path / "here"), format="hh", split="train").fingerprint
    assert first != open_source(str(tmp_path / "here"), format="messages").fingerprint
    (tmp_path / "there" / "a.jsonl").write_bytes(json_lines() + b"\n")
    assert first != open_source(str(tmp_path / "there")).fingerprint


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_flipped_bit_is_read_or_refused_and_never_a_crash(tmp_path: Path, container: str, packing: str) -> None:
    content = PACKINGS[packing](CONTAINERS[container]())
    for place in range(0, len(content), max(1, len(content) // 25)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        with suppress(InputError):
            read(tmp_path / "damaged", bytes(damaged))


@pytest.mark.parametrize("blank", [b"", b"\n" * (1 << 17)])
def test_reading_tells_of_bytes_even_where_no_row_comes(tmp_path: Path, blank: bytes) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(blank + json_lines() + blank))
    looked: list[int] = []
    source = open_source(str(path), on_read=looked.append)
    assert sum(looked) >= source.bytes == path.stat().st_size  # the hash alone reads all of it
    counts: list[int] = []
    assert len(list(source.rows(counts.append))) == len(PAIRS)
    assert sum(counts) == source.bytes


@pytest.mark.parametrize("text", ['{"data": [%s]}', '{"type": "x", "instances": [\n%s\n]\n}', "[%s]"])
def test_an_object_around_the_rows_is_looked_through(tmp_path: Path, text: str) -> None:
    rows = ",\n".join(map(json.dumps, PAIRS))
    assert reasons(read(tmp_path / "a.json", (text % rows).encode())) == ["ok"] * len(PAIRS)


def test_lines_that_begin_with_a_list_called_data_are_rows(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"data": [1], **pair}) for pair in PAIRS)
    assert reasons(read(tmp_path / "a.jsonl", lines.encode())) == ["ok"] * len(PAIRS)
