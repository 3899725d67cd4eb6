"""A training run in the terminal: steps, records/s, tokens/s, time left, and what is being done. On stderr."""

from __future__ import annotations

from rich.console import Console
from transformers import Trainer, TrainerCallback


class TrainingProgress(TrainerCallback):
    """A callback of the trainer, and the `Watcher` (`neat_data.watch`) of what samples, scores and evaluates in between.

    The trainer says `phase("training", None)` before it trains, and `advance(records, tokens)` after each micro-batch
    or step.
    """

    def __init__(self, console: Console | None) -> None:
        """`console` writes to stderr; None shows nothing."""

    def phase(self, name: str, total: int | None) -> None:
        """See `Watcher.phase`."""

    def advance(self, rows: int, tokens: int = 0) -> None:
        """See `Watcher.advance`."""

    def say(self, line: str) -> None:
        """See `Watcher.say`."""

    def take_over(self, trainer: Trainer) -> None:
        """Show this instead of transformers' bars and printed logs."""
