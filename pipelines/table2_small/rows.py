"""The rows of the experiment, as text: what is trained on, what settings are chosen on, and the two test sets.

Training and validation rows are the alignment rows, which no shipped model has seen; test rows are those of HH's own
test files. Queries are ordered by their ids, which are hashes: the first so many are a fair sample.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from neat_data.errors import InputError
from pipelines.alignment_rows import alignment_rows
from pipelines.table2_small.sizes import Size
from pipelines.tiny_models.rows import to_pair

Row = Mapping[str, str]
TESTS = {"helpful": "helpful-base.test.jsonl.gz", "harmless": "harmless-base.test.jsonl.gz"}


def rows_of(data: Path, size: Size) -> dict[str, str]:
    """The text of train.jsonl, validation.jsonl and test/{helpful,harmless}/test.jsonl.

    Args:
        data: the folder with hh-rlhf-single-turn/ and hh-rlhf/.

    Raises:
        InputError: files are missing.
    """
    tests = {kind: _usable(_read(data / "hh-rlhf" / name)) for kind, name in TESTS.items()}
    tested = {query for rows in tests.values() for query in rows}
    known = [item for item in _usable(alignment_rows(data / "hh-rlhf-single-turn")).items() if item[0] not in tested]
    end = None if size.records is None else size.validation + size.records
    return {
        "validation.jsonl": _lines(rows for _, rows in known[: size.validation]),
        "train.jsonl": _lines(rows for _, rows in known[size.validation : end]),
        **{f"test/{kind}/test.jsonl": _lines(list(rows.values())[: size.queries]) for kind, rows in tests.items()},
    }


def _usable(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows that are pairs, by their query's id and in its order."""
    pairs = [(to_pair("", row["chosen"], row["rejected"]), row) for row in rows]
    usable = sorted(((pair.query_id, row) for pair, row in pairs if pair.unusable is None), key=lambda one: one[0])
    return {query: [row for _, row in rows] for query, rows in groupby(usable, key=lambda one: one[0])}


def _read(file: Path) -> list[Row]:
    if not file.is_file():
        raise InputError(f"{file}: no such file; --data names the folder with hh-rlhf-single-turn/ and hh-rlhf/")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _lines(groups: Iterable[Iterable[Row]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for rows in groups for row in rows)
