"""What a source hands on: each of its rows is either a `Row` that was understood or a `Reject` that says why not.

The shapes raise `Unusable` where a row cannot be used; `Source.rows` turns that into a `Reject`. Nothing here knows
about file formats.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from neat_data.record import Label, Messages
from neat_data.store.documents import RejectLine, RowPlace

Columns = dict[str, Any]
"""The cells of a source's row by the names of its columns: whatever a file holds."""

REASONS = {
    "not_json": "The line is not a JSON object.",
    "not_utf8": "The bytes are not UTF-8.",
    "not_csv": "The line has another number of fields than the header, or its quotes are broken.",
    "duplicate_key": "A JSON object names the same key twice, so it has no one meaning.",
    "bad_unicode": "A text holds half of a surrogate pair, which no encoding can store.",
    "missing_column": "A column that the shape needs is not there.",
    "not_text": "A null, number, boolean or object stands where text belongs.",
    "bad_message": "A message is not an object with a role and a content of text.",
    "no_parent": "A message of a flat table answers one that is not there.",
    "unknown_role": "A message's role is neither system, user nor assistant.",
    "queries_differ": "The two sides do not answer the same query.",
    "query_not_user_turn": "The query does not end in a user turn.",
    "no_response_turn": "The dialogue does not end in an assistant turn.",
    "empty_query": "There is no query, or its last turn is blank.",
    "empty_response": "A response is blank.",
    "identical_responses": "The responses are the same text.",
    "too_few_responses": "A list holds fewer than two responses.",
    "too_many_responses": "A list holds more responses than are read of one row.",
    "bad_label": "The label does not say which response is better, or whether the response is good.",
    "bad_score": "A score is no number that float32 holds, or scores and responses differ in number.",
    "unclear_turns": "The tags of a dialogue do not take turns, or the two sides write them in two ways.",
    "templated": "A chat template has rendered the text already, and it cannot be taken apart.",
    "has_tools": "The row offers or calls tools, which are not read (--ignore COLUMN).",
    "has_images": "The row has images or videos, which are not read (--ignore COLUMN).",
    "has_audio": "The row has audio, which is not read (--ignore COLUMN).",
    "has_context": "`context`, `documents` or `input` beside turns changes what is asked (--columns input=…).",
}
"""Every reason code a source gives, with one sentence each."""


class Unusable(Exception):
    """A row cannot be used: `reason` is a key of `REASONS`, `detail` says what in this row is wrong."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: `row` counts from 0 inside that file (inside that split, for a hub dataset)."""

    name: str
    subset: str | None
    split: str | None
    row: int


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """One response of a source row, stripped, with the reward and the model that the source gives it."""

    text: str
    reward: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Understood:
    """What a shape makes of one row: see `Row`, which adds the place and the raw row."""

    messages: Messages
    answers: tuple[SourceAnswer, ...]
    order: tuple[int, ...] = ()
    verdict: bool | None = None
    meta: Columns = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One source row, understood.

    `messages` end in a user turn; `answers` are distinct texts in source order, and () where queries alone were asked
    for and the row holds no more; `order` indexes them best first and is () where the source says nothing of them.
    Unpaired data has one answer, the order (0,) and a `verdict`. `meta` holds the source columns that have no other
    place; `source` is the row as it stood, a line of text or a table's columns.
    """

    place: Place
    messages: Messages
    answers: tuple[SourceAnswer, ...]
    order: tuple[int, ...]
    verdict: bool | None
    meta: Columns
    source: str | bytes | Columns

    @property
    def raw(self) -> str | bytes:
        """The row as it stood, a table's as JSON."""
        return _text(self.source)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what was read of the row, without the row."""
        return {
            **place_of(self.place),
            "messages": [asdict(message) for message in self.messages],
            "answers": [asdict(answer) for answer in self.answers],
            "order": list(self.order),
            "verdict": self.verdict,
            "meta": self.meta,
        }


@dataclass(frozen=True, slots=True)
class Reject:
    """One source row that cannot be used; `raw` is bytes where they do not decode."""

    place: Place
    reason: str
    detail: str
    raw: str | bytes

    def to_dict(self) -> RejectLine:
        """JSON-able: see `reject_line`."""
        return reject_line(self)


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a file before its shape is known: its columns, or the problem that kept them from being read.

    `source` is the row as it stood: a line of text, or a table's columns.
    """

    source: str | bytes | Columns
    columns: Columns | None = None
    problem: Unusable | None = None

    @property
    def raw(self) -> str | bytes:
        """The row as it stood, a table's as JSON."""
        return _text(self.source)


def _text(source: str | bytes | Columns) -> str | bytes:
    """Few rows are ever shown as they stood, so that a table's are written as JSON only then."""
    return json.dumps(source, ensure_ascii=False) if isinstance(source, dict) else source


def reject_line(reject: Reject) -> RejectLine:
    """A reject as one JSON line; bytes that are no UTF-8 go in as base64."""
    line: RejectLine = {**place_of(reject.place), "reason": reject.reason, "detail": reject.detail}
    raw = reject.raw.encode() if isinstance(reject.raw, str) else reject.raw
    try:
        return {**line, "raw": raw.decode()}
    except UnicodeDecodeError:
        return {**line, "raw_base64": base64.b64encode(raw).decode()}


def place_of(place: Label | Place) -> RowPlace:
    """Where a row stands, as JSON."""
    return {"name": place.name, "subset": place.subset, "split": place.split, "row": place.row}
