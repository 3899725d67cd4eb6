"""The record: a query with its ranked responses, what people said of them, and its Arrow schema.

Everything in this project reads or writes these classes. A record is built by `sources`, gets its rewards in
`score`, and is stored by `store`. Identifiers depend on text alone, so the same dialogue from two formats has the
same ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, islice
from json.encoder import encode_basestring as _json_text  # what `canonical_json` writes a text with
from operator import attrgetter
from typing import Any, Literal, TypeVar

import pyarrow as pa

Origin = Literal["source", "given", "sampled", "human"]
Polarity = Literal["positive", "negative"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `role` is `system`, `user` or `assistant`; `content` has no surrounding whitespace."""

    role: str
    content: str


Messages = tuple[Message, ...]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no escapes beyond JSON's own: one text for one value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def query_id(messages: Iterable[Message]) -> str:
    """First 32 hex digits of the sha256 over the canonical JSON of `messages`.

    >>> query_id([Message("user", "Hi")])
    '557f6d9586f57ae72d24a7d34f47ed21'
    """
    turns = ",".join([f'{{"content":{_json_text(m.content)},"role":{_json_text(m.role)}}}' for m in messages])
    return hashlib.sha256(f"[{turns}]".encode()).hexdigest()[:32]


def response_id(query: str, text: str) -> str:
    """First 16 hex digits of the sha256 over the query's id, a NUL and the response's text."""
    return hashlib.sha256(f"{query}\0{text}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Response:
    """One assistant turn. `reward` is the reward model's raw logit (float32), None before it was scored."""

    response_id: str
    text: str
    reward: float | None = None
    origin: Origin = "source"
    polarity: Polarity | None = None
    model: str | None = None
    round: int = 0
    seed: int | None = None
    tokens: tuple[int, ...] | None = None
    tokenizer: str | None = None
    finished: bool | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """What people said in one source row: response ids best first, or one id and a verdict (unpaired data).

    `name`, `subset`, `split` and `row` (from 0, within the file) say where the row stands.
    """

    name: str
    subset: str | None
    split: str | None
    row: int
    order: tuple[str, ...]
    verdict: bool | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A query with its responses, best first, and the labels of every source row that asked it."""

    query_id: str
    messages: Messages
    responses: tuple[Response, ...]
    labels: tuple[Label, ...] = field(default=())
    meta: str | None = None

    def response(self, response_id: str) -> Response:
        """The response with this id; KeyError where there is none."""
        for response in self.responses:
            if response.response_id == response_id:
                return response
        raise KeyError(response_id)

    def ranked(self) -> Record:
        """The same record with its responses in ranking order (see `ranked`)."""
        return replace(self, responses=ranked(self.responses))

    def to_dict(self) -> dict[str, Any]:
        """Plain Python, in the shape of the Arrow schema."""
        return {
            "query_id": self.query_id,
            "messages": [asdict(m) for m in self.messages],
            "responses": [
                {**asdict(r), "tokens": None if r.tokens is None else list(r.tokens)} for r in self.responses
            ],
            "labels": [{**asdict(label), "order": list(label.order)} for label in self.labels],
            "meta": self.meta,
        }

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Record:
        """The inverse of `to_dict`; a round's row may lack messages and labels."""
        return cls(
            query_id=row["query_id"],
            messages=tuple(Message(**m) for m in row["messages"] or ()),
            responses=tuple(
                Response(**{**r, "tokens": None if r["tokens"] is None else tuple(r["tokens"])})
                for r in row["responses"]
            ),
            labels=tuple(Label(**{**label, "order": tuple(label["order"])}) for label in row["labels"] or ()),
            meta=row["meta"],
        )


def ranked(responses: Sequence[Response]) -> tuple[Response, ...]:
    """Best first: reward descending; ties in source order, then by (round, response_id).

    `responses` come in source order, which a stable sort keeps among ties of round 0. Responses without a reward
    come last.
    """

    def key(response: Response) -> tuple[bool, float, int, str]:
        unscored = response.reward is None
        reward = 0.0 if response.reward is None else -response.reward
        return unscored, reward, response.round, "" if response.round == 0 else response.response_id

    return tuple(sorted(responses, key=key))


MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
RESPONSE = pa.struct(
    [
        ("response_id", pa.string()),
        ("text", pa.string()),
        ("reward", pa.float32()),
        ("origin", pa.string()),
        ("polarity", pa.string()),
        ("model", pa.string()),
        ("round", pa.int32()),
        ("seed", pa.int64()),
        ("tokens", pa.list_(pa.int32())),
        ("tokenizer", pa.string()),
        ("finished", pa.bool_()),
        ("truncated", pa.bool_()),
    ]
)
LABEL = pa.struct(
    [
        ("name", pa.string()),
        ("subset", pa.string()),
        ("split", pa.string()),
        ("row", pa.int64()),
        ("order", pa.list_(pa.string())),
        ("verdict", pa.bool_()),
    ]
)
SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("responses", pa.list_(RESPONSE)),
        ("labels", pa.list_(LABEL)),
        ("meta", pa.string()),
    ]
)


def to_table(records: Iterable[Record]) -> pa.Table:
    """Records as an Arrow table of `SCHEMA`."""
    records = list(records)
    columns = [
        pa.array([record.query_id for record in records], pa.string()),
        objects_lists([record.messages for record in records], MESSAGE),
        objects_lists([record.responses for record in records], RESPONSE),
        objects_lists([record.labels for record in records], LABEL),
        pa.array([record.meta for record in records], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def objects_lists(rows: Sequence[Sequence[Any]], item: pa.StructType) -> pa.ListArray:
    """A list of structs for each row, from objects that have the fields of `item`."""
    objects = [part for row in rows for part in row]
    columns = {field.name: list(map(attrgetter(field.name), objects)) for field in item}
    return lists([len(row) for row in rows], item, columns)


def lists(lengths: Sequence[int], item: pa.StructType, values: Mapping[str, Sequence[Any]]) -> pa.ListArray:
    """A list of structs for each row, from the `values` of each field over all rows; null for a field without any."""
    count = sum(lengths)
    columns = [pa.array(values.get(field.name, [None] * count), field.type) for field in item]
    offsets = pa.array(accumulate(lengths, initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(item)))


def from_table(table: pa.Table) -> list[Record]:
    """The inverse of `to_table`; rewards come back as the float32 values that were stored.

    A round's row may lack messages and labels.
    """
    return [record for batch in table.to_batches() for record in _from_batch(batch)]


def _from_batch(batch: pa.RecordBatch) -> Iterator[Record]:
    return map(
        Record,
        batch["query_id"].to_pylist(),
        _objects(batch["messages"], MESSAGE, Message),
        _objects(batch["responses"], RESPONSE, _response),
        _objects(batch["labels"], LABEL, _label),
        batch["meta"].to_pylist(),
    )


Part = TypeVar("Part")


def _objects(lists: pa.ListArray, item: pa.StructType, make: Callable[..., Part]) -> Iterator[tuple[Part, ...]]:
    """The inverse of `objects_lists`: what `make` makes of each struct's fields; () for a list that is null."""
    structs = lists.flatten()
    columns = [structs.field(field.name).to_pylist() for field in item]
    made = map(make, *columns)
    lengths = lists.value_lengths().fill_null(0).to_pylist()
    return (tuple(islice(made, length)) for length in lengths)


def _response(*fields: Any) -> Response:
    values = list(fields)
    values[_TOKENS] = None if values[_TOKENS] is None else tuple(values[_TOKENS])
    return Response(*values)


_TOKENS = RESPONSE.get_field_index("tokens")


def _label(name: str, subset: str | None, split: str | None, row: int, order: list[str], verdict: bool | None) -> Label:
    return Label(name, subset, split, row, tuple(order), verdict)
