"""A training run in the terminal: steps, records/s, tokens/s, time left, and what is being done. On stderr."""

from __future__ import annotations

import logging
import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neat_data.progress import columns, count, counts, lively

TRAINING = "training"


class TrainingProgress(TrainerCallback):
    """A callback of the trainer, and the `Watcher` of what samples, scores and evaluates between.

    The first line counts optimiser steps; while something else than training goes on, a second one counts that. The
    trainer says `phase("training", None)` before it trains, and `advance(records, tokens)` of all ranks after it.
    A context manager.
    """

    def __init__(self, console: Console | None, logger: logging.Logger | None = None) -> None:
        """`console` writes to stderr; with None nothing is shown. Lines go to `logger` where there is one."""
        self._bars = Progress(
            *columns(80 if console is None else console.width),
            console=console,
            transient=True,
            speed_estimate_period=3_600,  # a step may take minutes, and measuring in between belongs to the time left
            disable=not lively(console),
        )
        self._steps = self._bars.add_task("steps", total=None, visible=False, **counts(unit=" records"))
        self._phase = self._bars.add_task("starting", total=None, **counts())
        self._training = False
        self._console, self._logger = console, logger

    def __enter__(self) -> TrainingProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def phase(self, name: str, total: int | None, unit: str = " rows") -> None:
        """See `Watcher.phase`."""
        self._training = name == TRAINING
        self._bars.remove_task(self._phase)
        self._phase = self._bars.add_task(f"  {name}", total=total, visible=not self._training, **counts())

    def advance(self, rows: int, tokens: int = 0) -> None:
        """See `Watcher.advance`."""
        task = self._steps if self._training else self._phase
        count(self._bars, task, rows, tokens)
        if not self._training:
            self._bars.advance(task, rows)

    def say(self, line: str, advice: str | None = None) -> None:
        """See `Watcher.say`; settings have one name everywhere, so advice is told as it is."""
        line += f"; {advice}" if advice else ""
        if self._logger is not None:
            self._logger.info("%s", line)
        elif self._console is not None:
            self._console.print(escape(line), highlight=False, soft_wrap=True)

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
            self._bars.update(self._steps, description=f"steps  loss {_figure(loss)}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What comes now is no step."""
        self.phase("finishing", None)


def _figure(loss: float) -> str:
    return f"{loss:.3f}" if abs(loss) < 1_000 else f"{loss:.1e}"
