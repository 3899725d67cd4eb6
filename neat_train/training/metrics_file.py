"""RUN/metrics.jsonl: one JSON object for every log of a run, and reading it back.

Each has `step` and `epoch`, and the figures that the trainer logged there. A run that was killed and went on leaves the
same lines as an undisturbed one, but for figures that tell time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neat_data.errors import InputError
from neat_train.training.json_lines import append, keep, read_rows

METRICS = "metrics.jsonl"
_CLOSING = "train_runtime"
_LARGEST = 2.0**63  # beyond it an integer fits no column


class MetricsFile(TrainerCallback):
    """Appends every log to RUN/metrics.jsonl.

    A run that goes on first cuts what came after its checkpoint, from metrics.jsonl and the other `files` of rows with
    a step; one that begins anew cuts everything.
    """

    def __init__(self, run: Path, files: tuple[str, ...] = ("samples.jsonl",)) -> None:
        self.path = run / METRICS
        self.others = [run / name for name in files]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            for path in (self.path, *self.others):
                keep(path, lambda row: 0 < state.global_step >= row["step"] and _CLOSING not in row)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            figures = {name: _plain(value) for name, value in logs.items() if name != "epoch"}
            append(self.path, {"step": state.global_step, "epoch": state.epoch, **figures})


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's."""
    return value.item() if hasattr(value, "item") else value


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
