"""RUN/metrics.jsonl: one JSON object for every log of a run.

Each has `step` and `epoch`, and the figures that the trainer logged there. A run that was killed and went on leaves the
same lines as an undisturbed one, but for figures that tell time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neat_train.training.json_lines import append, keep
from neat_train.training.metrics import METRICS

_CLOSING = "train_runtime"


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
