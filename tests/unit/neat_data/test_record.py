"""Records as Arrow tables: column by column the same as row by row."""

from __future__ import annotations

import hashlib

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from neat_data.record import SCHEMA, Label, Message, Record, Response, canonical_json, from_table, query_id, to_table

TEXTS = st.text(max_size=6)
OPTIONAL = st.none() | TEXTS
REWARDS = st.none() | st.floats(width=32, allow_nan=False)
MESSAGES = st.lists(st.builds(Message, TEXTS, TEXTS), max_size=3).map(tuple)
RESPONSES = st.builds(
    Response,
    TEXTS,
    TEXTS,
    reward=REWARDS,
    model=OPTIONAL,
    seed=st.none() | st.integers(0, 2**62),
    tokens=st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    finished=st.none() | st.booleans(),
)
ORDERS = st.lists(TEXTS, max_size=2).map(tuple)
LABELS = st.builds(Label, TEXTS, OPTIONAL, OPTIONAL, st.integers(0, 9), ORDERS, st.none() | st.booleans())
RECORDS = st.lists(
    st.builds(
        Record,
        TEXTS,
        MESSAGES,
        st.lists(RESPONSES, max_size=3).map(tuple),
        st.lists(LABELS, max_size=2).map(tuple),
        OPTIONAL,
    ),
    max_size=4,
)


@given(RECORDS)
def test_a_table_of_records_holds_what_each_record_says_and_gives_it_back(records: list[Record]) -> None:
    table = to_table(records)
    assert table == pa.Table.from_pylist([record.to_dict() for record in records], schema=SCHEMA)
    assert from_table(table) == records
    assert from_table(table.slice(1)) == records[1:]


def test_a_round_that_stores_no_messages_and_no_labels_reads_as_records_without_them() -> None:
    row = Record("q", (), (Response("r", "text"),)).to_dict()
    table = pa.Table.from_pylist([{**row, "messages": None, "labels": None}] * 2, schema=SCHEMA)
    assert from_table(table) == [Record.from_dict(row)] * 2


@given(st.lists(st.builds(Message, st.text(), st.text()), max_size=3))
def test_a_query_s_id_is_the_hash_of_its_canonical_json(messages: list[Message]) -> None:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    assert query_id(messages) == hashlib.sha256(canonical_json(turns).encode()).hexdigest()[:32]
