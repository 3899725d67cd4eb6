"""The rows that a SQL expression is true for, within a time.

The expression is that of `--where`. Most name only columns of the index; others read the dataset, shard by shard.
"""

from __future__ import annotations

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
_ROW = "row of the index"


def filtered(dataset: PreferenceDataset, index: Index, where: str, seconds: float = SECONDS) -> np.ndarray:
    """Whether the expression is true for each record, bool, one a row of the index.

    Raises:
        InputError: the expression is too long, cannot be read, or takes too long.
    """
    stored = [name for name in SCHEMA.names if name in _condition(where).meta.root_names() and name != "query_id"]
    holds, end = np.zeros(len(index), dtype=bool), time.monotonic() + seconds
    known = index.frame.lazy().select("query_id", *worked_out()).with_row_index(_ROW)
    for number, rows in index.shards():
        frame = known.slice(rows.start, len(rows))
        if stored:
            frame = pl.concat([frame, pl.LazyFrame(dataset.shard_table(number).select(stored))], how="horizontal")
        with explained(where):
            holds[select(frame, where).select(_ROW).collect()[_ROW]] = True
        if time.monotonic() > end:
            raise InputError(f"the expression takes more than {seconds:g} seconds; a simpler one may do")
    return holds


def _condition(where: str) -> pl.Expr:
    if len(where) > MAX_WHERE:
        raise InputError(f"{MAX_WHERE:,} characters at most", field="where", value=repr(where[:40]))
    with explained(where):
        return scalar(where)
