"""RUN/metrics.jsonl, read back: a table of the figures that a run logged, one row a log.

Apart from the writer in `metrics_file.py`, which is a callback and so needs transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from neat_data.errors import InputError
from neat_train.training.json_lines import read_rows

METRICS = "metrics.jsonl"
_LARGEST = 2.0**63  # beyond it an integer fits no column


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, float | str) or (isinstance(value, int) and abs(value) < _LARGEST)


def read(run: Path) -> pl.DataFrame:
    """One row a log, in order, with `step` and `epoch`, and null where a log lacks a figure; no rows without a file.

    Raises:
        InputError: a line is damaged.
    """
    rows = read_rows(run / METRICS)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("step"), int) or not all(map(_is_figure, row.values())):
            raise InputError(f"{run / METRICS}:{number}: holds something else than figures at a step\nremove that line")
    return pl.DataFrame(rows or None, schema_overrides={"step": pl.Int64}, infer_schema_length=None, strict=False)
