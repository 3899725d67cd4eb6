"""The dataset's own columns: one row a response, or one row a record as every reader gives it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from neat_data.record import MESSAGE, RESPONSE, Record

RESPONSES = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.uint32()),
        ("messages", pa.list_(MESSAGE)),
        *RESPONSE,
    ]
)


def responses(record: Record) -> list[dict[str, Any]]:
    """One row a response, best first; `rank` 0 is the best of its query."""
    row = record.to_dict()
    query = {"query_id": row["query_id"], "messages": row["messages"]}
    return [{**query, "rank": rank, **response} for rank, response in enumerate(row["responses"])]


def whole(record: Record) -> list[dict[str, Any]]:
    """The record as one row."""
    return [record.to_dict()]
