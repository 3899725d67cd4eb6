"""RUN/metrics.jsonl: one JSON object for every log of a run, and reading it back."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from transformers import TrainerCallback


class MetricsFile(TrainerCallback):
    """Appends every log to RUN/metrics.jsonl; a run that goes on first cuts what its checkpoint does not know of."""

    def __init__(self, run: Path) -> None:
        self.run = run


def read(run: Path) -> pl.DataFrame:
    """One row a log, with `step` and `epoch`, and null where a log lacks a figure."""
    raise NotImplementedError
