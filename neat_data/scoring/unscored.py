"""Source rows -> records, one a row, that no model has scored: one by one, or many as an Arrow table.

The table's columns are written straight from the rows: a source of millions of them would spend a tenth of its planning
on objects that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from neat_data.record import (
    LABEL,
    MESSAGE,
    RESPONSE,
    SCHEMA,
    Label,
    Record,
    Response,
    canonical_json,
    lists,
    objects_lists,
    query_id,
    response_id,
)
from neat_data.sources.row import Row


def record_of(row: Row) -> Record:
    """A source row as a record of its own; responses stand in source order and carry the rewards that came along."""
    query = query_id(row.messages)
    ids = [response_id(query, answer.text) for answer in row.answers]
    responses = tuple(
        Response(identifier, answer.text, reward=answer.reward, model=answer.model)
        for identifier, answer in zip(ids, row.answers, strict=True)
    )
    place = row.place
    order = tuple(ids[index] for index in row.order)
    label = Label(place.name, place.subset, place.split, place.row, order, row.verdict)
    meta = canonical_json(row.meta) if row.meta else None
    return Record(query, row.messages, responses, (label,), meta)


def unscored(rows: Sequence[Row]) -> pa.Table:
    """The table of the `record_of` each row."""
    queries = [query_id(row.messages) for row in rows]
    ids = [[response_id(query, a.text) for a in row.answers] for query, row in zip(queries, rows, strict=True)]
    columns = [
        pa.array(queries, pa.string()),
        objects_lists([row.messages for row in rows], MESSAGE),
        _responses(rows, ids),
        _labels(rows, ids),
        pa.array([canonical_json(row.meta) if row.meta else None for row in rows], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _responses(rows: Sequence[Row], ids: Sequence[Sequence[str]]) -> pa.ListArray:
    answers = [answer for row in rows for answer in row.answers]
    said: dict[str, Sequence[Any]] = {
        "response_id": [identifier for each in ids for identifier in each],
        "text": [answer.text for answer in answers],
        "reward": [answer.reward for answer in answers],
        "origin": ["source"] * len(answers),
        "model": [answer.model for answer in answers],
        "round": [0] * len(answers),
        "truncated": [False] * len(answers),
    }
    return lists([len(each) for each in ids], RESPONSE, said)


def _labels(rows: Sequence[Row], ids: Sequence[Sequence[str]]) -> pa.ListArray:
    places = [row.place for row in rows]
    said: dict[str, Sequence[Any]] = {
        "name": [place.name for place in places],
        "subset": [place.subset for place in places],
        "split": [place.split for place in places],
        "row": [place.row for place in places],
        "order": [[each[index] for index in row.order] for row, each in zip(rows, ids, strict=True)],
        "verdict": [row.verdict for row in rows],
    }
    return lists([1] * len(rows), LABEL, said)
