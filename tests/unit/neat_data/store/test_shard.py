"""A shard's bytes depend on its rows and metadata alone, and no truncation or flipped bit goes unseen."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.record import Label, Message, Record, Response, from_table, to_table
from neat_data.store.shard import damage, elements, read_shard, shard_bytes, shard_entry, shard_metadata, write_shard

text = st.text(max_size=6)
responses = st.builds(
    Response,
    response_id=text,
    text=text,
    reward=st.none() | st.floats(width=32),
    model=st.none() | text,
    seed=st.none() | st.integers(-5, 5),
    tokens=st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    finished=st.none() | st.booleans(),
)
labels = st.builds(
    Label,
    name=text,
    subset=st.none() | text,
    split=st.none() | text,
    row=st.integers(0, 9),
    order=st.lists(text, max_size=2).map(tuple),
    verdict=st.none() | st.booleans(),
)
records = st.builds(
    Record,
    query_id=text,
    messages=st.lists(st.builds(Message, text, text), max_size=2).map(tuple),
    responses=st.lists(responses, max_size=3).map(tuple),
    labels=st.lists(labels, max_size=2).map(tuple),
    meta=st.none() | text,
)


@given(
    rows=st.lists(records, max_size=20),
    before=st.lists(records, max_size=9),
    after=st.lists(records, max_size=3),
    cuts=st.lists(st.integers(0, 20), max_size=3),
)
def test_bytes_do_not_depend_on_how_the_table_was_put_together(rows, before, after, cuts):
    fresh = bytes(shard_bytes(to_table(rows), {"n": 1}))
    cut_out = to_table([*before, *rows, *after]).slice(len(before), len(rows))
    assert bytes(shard_bytes(cut_out, {"n": 1})) == fresh
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = [cut_out.slice(a, b - a) for a, b in pairwise(edges)]
    assert bytes(shard_bytes(pa.concat_tables(pieces), {"n": 1})) == fresh


def test_bytes_do_not_depend_on_metadata_that_came_with_the_table_or_the_order_of_keys(make_record):
    table = to_table([make_record(0)])
    marked = table.replace_schema_metadata({"pandas": "x"})
    assert bytes(shard_bytes(marked, {"b": 1, "a": 2})) == bytes(shard_bytes(table, {"a": 2, "b": 1}))


def test_a_shard_comes_back_with_its_metadata_and_entry(tmp_path: Path, make_record):
    rows = [make_record(0), make_record(1, (0.25, 0.5, 2.0))]
    path = tmp_path / "round-0000" / "00003.arrow"
    path.parent.mkdir()
    entry = write_shard(path, to_table(rows), {"fingerprint": "f", "rejected": {"not_json": 2}})
    assert from_table(read_shard(path)) == rows
    assert shard_metadata(path) == {"fingerprint": "f", "rejected": {"not_json": 2}}
    content = path.read_bytes()
    assert (entry.name, entry.rows, entry.responses) == ("round-0000/00003.arrow", 2, 5)
    assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert shard_entry(path) == entry


def test_a_shard_without_rows_is_a_shard(tmp_path: Path):
    entry = write_shard(tmp_path / "a.arrow", to_table([]), {})
    assert (entry.rows, entry.responses) == (0, 0)
    assert len(read_shard(tmp_path / "a.arrow")) == 0
    assert pl.scan_ipc(tmp_path / "a.arrow").collect().height == 0


def test_elements_are_counted_in_slices_and_chunks(make_record):
    table = to_table([make_record(0), make_record(1, (1.0, 2.0, 3.0)), make_record(2, (1.0,))])
    assert elements(table.slice(1, 2), "responses") == 4
    assert elements(pa.concat_tables([table, table.slice(0, 1)]), "responses") == 8
    assert elements(pa.table({"x": [1]}), "responses") == 0


def test_every_truncation_is_refused(tmp_path: Path, make_record):
    content = bytes(shard_bytes(to_table([make_record(0), make_record(1)]), {"number": 0}))
    for length in range(len(content)):
        with pytest.raises(pa.ArrowInvalid):
            pa.ipc.open_file(pa.py_buffer(content[:length])).read_all()


def test_every_flipped_bit_is_seen(tmp_path: Path, make_record):
    path = tmp_path / "a.arrow"
    entry = write_shard(path, to_table([make_record(0)]), {})
    content = path.read_bytes()
    assert damage(path, entry) is None
    with path.open("r+b", buffering=0) as file:
        for bit in range(len(content) * 8):
            place, right = bit // 8, content[bit // 8]
            for byte, seen in ((right ^ 1 << bit % 8, True), (right, False)):
                file.seek(place)
                file.write(bytes([byte]))
                if seen:
                    assert str(damage(path, entry)).startswith("damaged: its sha256 is not the manifest's")


def test_rewards_are_stored_as_float32(tmp_path: Path, make_record):
    record = make_record(0, (0.1,))
    write_shard(tmp_path / "a.arrow", to_table([record]), {})
    (back,) = from_table(read_shard(tmp_path / "a.arrow"))
    assert back == replace(record, responses=(replace(record.responses[0], reward=0.10000000149011612),))
