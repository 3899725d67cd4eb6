"""A training run in the terminal: steps, records/s, tokens/s, time left, and what is being done. On stderr."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

TRAINING = "training"


class TrainingProgress(TrainerCallback):
    """A callback of the trainer, and the `Watcher` (`neat_data.watch`) of what samples, scores and evaluates between.

    The first line counts optimiser steps; while something else than training goes on, a second one counts that. The
    trainer says `phase("training", None)` before it trains, and `advance(records, tokens)` of all ranks after it.
    A context manager.
    """

    def __init__(self, console: Console | None) -> None:
        """`console` writes to stderr; with None nothing is shown."""
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=_bar(console)),
            MofNCompleteColumn(),
            _Rates(Column(no_wrap=True)),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            speed_estimate_period=3_600,  # a step may take minutes, and measuring in between belongs to the time left
            disable=console is None,
        )
        self._steps = self._bars.add_task("steps", total=None, unit=" records", rows=0, tokens=0, visible=False)
        self._phase = self._bars.add_task("starting", total=None, unit="", rows=0, tokens=0)
        self._training = False

    def __enter__(self) -> TrainingProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def phase(self, name: str, total: int | None) -> None:
        """See `Watcher.phase`."""
        self._training = name == TRAINING
        self._bars.remove_task(self._phase)
        self._phase = self._bars.add_task(
            f"  {name}", total=total, unit="", rows=0, tokens=0, visible=not self._training
        )

    def advance(self, rows: int, tokens: int = 0) -> None:
        """See `Watcher.advance`."""
        task = self._steps if self._training else self._phase
        told = self._bars.tasks[self._bars.task_ids.index(task)].fields
        self._bars.update(task, rows=told["rows"] + rows, tokens=told["tokens"] + tokens)
        if not self._training:
            self._bars.advance(task, rows)

    def say(self, line: str) -> None:
        """See `Watcher.say`."""
        if not self._bars.disable:
            self._bars.console.print(escape(line), highlight=False, soft_wrap=True)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The first line begins: at a checkpoint's step, where there is one."""
        self._bars.reset(self._steps, total=state.max_steps, completed=state.global_step, visible=True)
        self.phase(TRAINING, None)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Whatever came before it, a step trains."""
        self.phase(TRAINING, None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One step more."""
        self._bars.update(self._steps, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """The loss, beside the steps."""
        loss = (logs or {}).get("loss")
        if loss is not None and math.isfinite(loss):
            self._bars.update(self._steps, description=f"steps  loss {loss:.3f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What comes now is no step."""
        self.phase("finishing", None)


def _bar(console: Console | None) -> int:
    """As wide as leaves the rest of the line its place, which 80 columns just do."""
    return 8 if console is None else max(8, min(24, console.width - 72))


class _Rates(ProgressColumn):
    """Rows and tokens per second since the line began."""

    def render(self, task: Task) -> Text:
        seconds, rows, tokens = task.elapsed or 0, task.fields["rows"], task.fields["tokens"]
        if not seconds or not rows:
            return Text("")
        rate = rows / seconds
        told = f"{rate:,.{0 if rate >= 10 else 1}f}{task.fields['unit']}/s"
        return Text(f"{told}  {tokens / seconds:,.0f} tokens/s" if tokens else told)
