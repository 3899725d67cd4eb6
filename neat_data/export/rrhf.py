"""Rows for RRHF's `train.py` (github.com/GanjinZero/RRHF): `query`, `responses`, `scores`, one JSON object a line.

Its data are texts in HH's form: `query` ends with the assistant's tag, and a response has no space in front (its own
scoring joins the two by one). Its options `only_use_provide` and `only_use_sample` take the last two responses for
those that came with the data, so responses from the source stand last. A batch of more than one record wants as many
responses in each.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from neat_data.dialogue import hh_text
from neat_data.export.preferences import Skipped, scored
from neat_data.record import Record

SCHEMA = pa.schema([("query", pa.string()), ("responses", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))])


def rrhf(record: Record) -> list[dict[str, Any]]:
    """One row with every response that has a reward.

    Raises:
        Skipped: there are no two rewards that differ, so nothing can be ranked.
    """
    responses = scored(record)
    if len({response.reward for response in responses}) == 1:
        raise Skipped("tie")
    responses.sort(key=lambda response: response.origin == "source")
    return [
        {
            "query": hh_text(record.messages) + "\n\nAssistant:",
            "responses": [response.text for response in responses],
            "scores": [response.reward for response in responses],
        }
    ]
