"""What people said of a record's responses, read by one rule."""

from __future__ import annotations

from neat_data.record import Record, Response


def chosen(record: Record) -> Response:
    """What people preferred, by the first label that says so; the highest reward where none does."""
    known = {response.response_id: response for response in record.responses}
    for label in record.labels:
        if (len(label.order) > 1 or label.verdict) and label.order[0] in known:
            return known[label.order[0]]
    return record.responses[0]
