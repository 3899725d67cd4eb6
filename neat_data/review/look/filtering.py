"""The rows that a SQL expression is true for, within a time.

The expression is that of `--where`, without what looks at more than one row: a link should choose the same records
whatever stands beside them. Most name only columns of the index; others read the dataset, shard by shard.
"""

from __future__ import annotations

import re
import time

import numpy as np
import polars as pl

from neat_data.errors import InputError
from neat_data.expressions import explained, scalar, select, worked_out
from neat_data.record import SCHEMA
from neat_data.review.look.index import Index
from neat_data.store.dataset import PreferenceDataset

SECONDS = 20.0  # that one expression may take
MAX_WHERE = 2_000  # characters
_PADDING = re.compile(r"\b[lr]pad\b", re.IGNORECASE)  # makes texts of any length
_ROW = "row of the index"


def filtered(dataset: PreferenceDataset, index: Index, where: str, seconds: float = SECONDS) -> np.ndarray:
    """Whether the expression is true for each record, bool, one a row of the index.

    Raises:
        InputError: the expression is too long, cannot be read, looks at more than one row, or takes too long.
    """
    stored = [name for name in SCHEMA.names if name in _condition(where).meta.root_names() and name != "query_id"]
    found, end = np.zeros(len(index), dtype=bool), time.monotonic() + seconds
    known = index.frame.lazy().select("query_id", *worked_out()).with_row_index(_ROW)
    for number, rows in index.shards():
        frame = known.slice(rows.start, len(rows))
        if stored:
            frame = pl.concat([frame, pl.LazyFrame(dataset.shard_table(number).select(stored))], how="horizontal")
        with explained(where):
            found[select(frame, where).select(_ROW).collect()[_ROW]] = True
        if time.monotonic() > end:
            raise InputError(f"the expression takes more than {seconds:g} seconds; a simpler one may do")
    return found


def _condition(where: str) -> pl.Expr:
    if len(where) > MAX_WHERE:
        raise InputError(f"{MAX_WHERE:,} characters at most", field="where", value=repr(where[:40]))
    with explained(where):
        condition = scalar(where)
    if _PADDING.search(where) or looks_at_many(condition):
        raise InputError("it may look at one record alone, and pad no text", field="where", value=repr(where))
    return condition


def looks_at_many(expression: pl.Expr) -> bool:
    """Whether some part of it makes one value of a whole column, or several rows of one.

    >>> [looks_at_many(pl.sql_expr(text)) for text in ("gap > AVG(gap)", "ROUND(gap) IN (1, 2)")]
    [True, False]
    """
    about = expression.meta
    if about.is_literal() or about.is_column():
        return False
    parts = about.pop()
    if not _keeps_length(expression) and (about.root_names() or not parts):
        return True
    return any(map(looks_at_many, parts))


def _keeps_length(expression: pl.Expr) -> bool:
    try:
        return expression.meta.is_length_preserving()
    except pl.exceptions.PolarsError:  # a function that polars settles once it knows the columns' types: row by row
        return True
