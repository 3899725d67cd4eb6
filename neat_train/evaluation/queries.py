"""What is asked in an evaluation: queries of a dataset, of any source of preference data, or of a file of bare queries.

`open_queries` gives each query once, with what people said of answers to it where anybody did.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from neat_data.errors import InputError
from neat_data.expressions import explained, select
from neat_data.labels import chosen_or_best, rejected
from neat_data.record import Messages, Record, Response, canonical_json, to_table
from neat_data.scoring.plan import merge
from neat_data.scoring.unscored import record_of
from neat_data.sources import open_source
from neat_data.sources.files.read import ENDINGS, PACKINGS
from neat_data.sources.row import Reject
from neat_data.store import manifest
from neat_data.store.dataset import PreferenceDataset

# Columns of a file of bare queries that say which kind of query it is (XSTest, Arena-Hard, HarmBench, AlpacaEval), and
# what it calls it; the first that a row has is taken.
_KINDS = ("label", "category", "SemanticCategory", "dataset", "type")
_IDS = ("uid", "question_id", "id", "BehaviorID")


@dataclass(frozen=True, slots=True)
class EvalQuery:
    """A query, and what people said of answers to it.

    Attributes:
        chosen: what people preferred; where nobody said, the highest reward of the dataset; None without a response.
        rejected: what they liked least; None where there is no such.
        source: the subset, or the file, that it came from.
        kind: the category that a file of bare queries gives it.
        own_id: what its source calls it (uid, question_id, id).
    """

    query_id: str
    messages: Messages
    chosen: str | None = None
    rejected: str | None = None
    source: str = ""
    kind: str | None = None
    own_id: str | None = None

    @property
    def group(self) -> str:
        """What figures are told apart by: the kind, where there is one, else the source."""
        return self.kind or self.source


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries in the order of their source.

    Attributes:
        source: as the user gave it.
        name: the source's, for folders and headings: `helpful-base.test`.
        queries: one at least, each once.
        left_out: source rows that could not be used, by reason.
    """

    source: str
    name: str
    queries: tuple[EvalQuery, ...]
    left_out: dict[str, int]

    @property
    def sha256(self) -> str:
        """Over the queries and their chosen responses, in order."""
        return sha256_of([query.query_id, query.chosen] for query in self.queries)

    @property
    def preferences_sha256(self) -> str:
        """Over the queries with what was chosen and rejected, in whatever order the source has them."""
        ordered = sorted(self.queries, key=lambda query: query.query_id)
        return sha256_of([query.query_id, query.chosen, query.rejected] for query in ordered)


def read_queries(
    source: str,
    *,
    where: str | None = None,
    limit: int | None = None,
    subset: str | None = None,
    split: str | None = None,
    format: str = "auto",
) -> list[EvalQuery]:
    """The queries themselves; arguments and errors as `open_queries`."""
    return list(open_queries(source, where=where, limit=limit, subset=subset, split=split, format=format).queries)


def open_queries(
    source: str,
    *,
    where: str | None = None,
    limit: int | None = None,
    subset: str | None = None,
    split: str | None = None,
    format: str = "auto",
) -> Queries:
    """Read queries.

    Args:
        source: a dataset's folder; a file, folder, glob or hub id of preference data, or of bare queries.
        where: a SQL expression over the record.
        limit: queries at most, the first ones.
        subset, format: as `neat_data.sources.open_source` takes them.
        split: of a folder or a hub dataset; None: `test`.

    Raises:
        InputError: no such source, nothing in it that can be asked, a bad expression.
    """
    if not source:
        raise InputError("names nothing; give a dataset, a file, a folder, a glob or a hub id", field="queries")
    left_out: Counter[str] = Counter()
    if (Path(source) / manifest.FILE).is_file():
        records: Iterable[Record] = _of_dataset(source)
    else:
        opened = open_source(source, subset=subset, split=split or _split(source), format=format, queries=True)
        records = _of_rows(opened.rows(), left_out)
    if where is not None:
        records = _chosen_by(where, list(records))
    queries = tuple(query_of(record) for record in islice(records, limit))
    if not queries:
        reasons = ", ".join(f"{reason} {count}" for reason, count in left_out.items())
        why = f"where {where!r} is true for none" if where is not None else reasons or "it is empty"
        raise InputError(f"has no query to ask ({why})", field="queries", value=source)
    return Queries(source, name_of(source), queries, dict(left_out))


def _split(source: str) -> str | None:
    """What was trained on is not asked by accident: a folder or a hub dataset is read in its test split."""
    path = Path(source).expanduser()
    return None if path.is_file() or any(mark in source for mark in "*?[") else "test"


def _of_dataset(source: str) -> Iterator[Record]:
    dataset = PreferenceDataset.open(source)
    if not dataset.complete:
        raise InputError("is not finished. Run the command that was making it again.", field="queries", value=source)
    return dataset.records()


def _of_rows(rows: Iterable[Any], left_out: Counter[str]) -> list[Record]:
    """One record a query, rows that share it put together."""
    by_query: dict[str, list[Record]] = {}
    for row in rows:
        if isinstance(row, Reject):
            left_out[row.reason] += 1
        else:
            record = record_of(row)
            by_query.setdefault(record.query_id, []).append(record)
    return [merge(records) for records in by_query.values()]


def _chosen_by(where: str, records: list[Record]) -> list[Record]:
    frame = pl.from_arrow(to_table(records))
    assert isinstance(frame, pl.DataFrame)
    with explained(where):
        kept = set(select(frame.lazy(), where).select("query_id").collect()["query_id"])
    return [record for record in records if record.query_id in kept]


def query_of(record: Record) -> EvalQuery:
    """A record as a query with what people said of its responses."""
    meta = json.loads(record.meta) if record.meta else {}
    label = record.labels[0] if record.labels else None
    bare = not record.responses
    return EvalQuery(
        record.query_id,
        record.messages,
        chosen=_text(chosen_or_best(record)),
        rejected=_text(rejected(record)),
        source="" if label is None else label.subset or label.name,
        kind=_first(meta, _KINDS) if bare else None,
        own_id=_first(meta, _IDS),
    )


def _text(response: Response | None) -> str | None:
    return None if response is None else response.text


def _first(meta: dict[str, Any], names: Iterable[str]) -> str | None:
    given = (meta[name] for name in names if isinstance(meta.get(name), str | int))
    return next((str(value) for value in given if str(value).strip()), None)


def sha256_of(rows: Iterable[Sequence[str | None]]) -> str:
    """Over rows of ids and texts, in order."""
    return hashlib.sha256("".join(canonical_json(row) + "\n" for row in rows).encode()).hexdigest()


def name_of(source: str) -> str:
    """The last part of a source's name, without what says that it is data; `queries` where that leaves nothing.

    >>> [name_of(source) for source in ("a/helpful-base.test.jsonl.gz", "runs/test/", "org/name@rev", "a/*.json")]
    ['helpful-base.test', 'test', 'name', 'a']
    >>> [name_of(source) for source in ("./h*.jsonl", "/data/me@lab/hh/test.jsonl", "/data/hh/..", "/")]
    ['queries', 'test', 'data', 'queries']
    """
    source = _without_revision(source)
    parts = [part for part in source.split("/") if part not in ("", ".") and not glob.has_magic(part)]
    if not parts or parts[-1] in ("..", "~"):
        fixed = source if not glob.has_magic(source) else "/".join(parts) or "/"
        parts = [Path(fixed).expanduser().resolve().name]
    name = parts[-1] or "queries"
    for ending in (*PACKINGS[1:], *ENDINGS):
        name = name.removesuffix(ending) or name
    return name


def _without_revision(source: str) -> str:
    """A hub id without its revision; an `@` in a path is part of a name."""
    name, _, _ = source.partition("@")
    local = Path(source).expanduser().exists() or source.startswith(("/", ".", "~")) or glob.has_magic(source)
    return source if local or name.count("/") > 1 else name
