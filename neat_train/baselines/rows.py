"""What the baselines learn from, a row a record, with the token ids that NEAT itself is trained on.

TRL would render and tokenise dialogues in its own way; it is handed ids instead, so that a comparison of methods
compares nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import datasets
import pyarrow as pa

from neat_data.errors import InputError
from neat_data.formats.preferences import Skipped
from neat_data.progress import Watcher
from neat_data.record import Record, Response
from neat_train.config.settings import FitSettings
from neat_train.data.examples import Encoder, Example
from neat_train.data.records import Records
from neat_train.data.selection import pair_of, target_of

Row = dict[str, list[int]]
IGNORED = -100  # a label that no loss counts

_IDS = pa.list_(pa.int32())
_SCHEMAS = {
    "dpo-trl": pa.schema([("prompt_ids", _IDS), ("chosen_ids", _IDS), ("rejected_ids", _IDS)]),
    "sft-trl": pa.schema([("input_ids", _IDS), ("labels", _IDS)]),
}


@dataclass(frozen=True, slots=True)
class Rows:
    """One row for each record that gives one.

    Attributes:
        table: the columns that TRL's trainer of the method reads.
        ids: query ids, in the order of the rows.
        lengths: tokens of each row's longest sequence.
        learned: tokens of each row that are learned from.
        skipped: records without a row, by reason.
    """

    table: datasets.Dataset
    ids: tuple[str, ...]
    lengths: tuple[int, ...]
    learned: tuple[int, ...]
    skipped: Counter[str]


def rows_of(records: Records, settings: FitSettings, encoder: Encoder, watch: Watcher) -> Rows:
    """The rows of all records, encoded.

    Raises:
        InputError: no record gives one.
    """
    watch.phase("encoding", len(records))
    rows: list[Row] = []
    ids: list[str] = []
    skipped: Counter[str] = Counter()
    for query in records.ids:
        try:
            rows.append(row_of(records[query], settings, encoder))
            ids.append(query)
        except Skipped as reason:
            skipped[reason.reason] += 1
        watch.advance(1)
    if not rows:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(skipped.items()))
        raise InputError(f"method {settings.method}: no record has what it learns from ({reasons})")
    schema = _SCHEMAS[settings.method]
    table = datasets.Dataset(pa.Table.from_pylist(rows, schema=schema))
    return Rows(table, tuple(ids), tuple(map(_length, rows)), tuple(map(_learned, rows)), skipped)


def row_of(record: Record, settings: FitSettings, encoder: Encoder) -> Row:
    """What TRL reads of one record.

    Raises:
        Skipped: the record does not say what is learned, or not enough of it is left to train on.
    """
    if settings.method == "dpo-trl":
        chosen, rejected = pair_of(record, settings.dpo.pairs)
        example, answers = _encoded(record, (chosen, rejected), encoder)
        return {"prompt_ids": list(example.query), "chosen_ids": answers[0], "rejected_ids": answers[1]}
    example, (answer,) = _encoded(record, (target_of(record, settings.sft.target, settings.seed),), encoder)
    return {"input_ids": [*example.query, *answer], "labels": [IGNORED] * len(example.query) + answer}


def _encoded(record: Record, wanted: tuple[Response, ...], encoder: Encoder) -> tuple[Example, list[list[int]]]:
    """The record's query and the ids of these responses of it."""
    example = encoder.example(replace(record, responses=wanted))
    if example is None:
        raise Skipped("no_room")
    ids = {answer.response_id: list(answer.ids) for answer in example.answers}
    if any(response.response_id not in ids for response in wanted):
        raise Skipped("response_left_out")
    return example, [ids[response.response_id] for response in wanted]


def _length(row: Row) -> int:
    if "prompt_ids" in row:
        return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
    return len(row["input_ids"])


def _learned(row: Row) -> int:
    if "prompt_ids" in row:
        return len(row["chosen_ids"]) + len(row["rejected_ids"])
    return sum(label != IGNORED for label in row["labels"])
