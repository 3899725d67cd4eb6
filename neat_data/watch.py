"""Who follows a long verb: the terminal's progress bar, or nobody. Everything goes to stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

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
from rich.text import Text


class Watcher(Protocol):
    """What a verb tells while it runs."""

    def phase(self, name: str, total: int | None) -> None:
        """A new phase begins, of `total` rows where that is known."""

    def advance(self, rows: int, tokens: int = 0) -> None:
        """So many rows and tokens were done since the last call."""

    def say(self, line: str) -> None:
        """A line worth reading once."""


class Silent:
    """A watcher that shows nothing."""

    def phase(self, name: str, total: int | None) -> None: ...

    def advance(self, rows: int, tokens: int = 0) -> None: ...

    def say(self, line: str) -> None: ...


class TerminalWatcher:
    """A progress bar with rows/s, tokens/s and the time left; a context manager."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rates(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._tokens = 0

    def __enter__(self) -> TerminalWatcher:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int | None) -> None:
        self._progress.remove_task(self._task)
        self._tokens = 0
        self._task = self._progress.add_task(name, total=total, tokens=0)

    def advance(self, rows: int, tokens: int = 0) -> None:
        self._tokens += tokens
        self._progress.update(self._task, advance=rows, tokens=self._tokens)

    def say(self, line: str) -> None:
        self._progress.console.print(escape(line), highlight=False)


class _Rates(ProgressColumn):
    """Rows and tokens per second since the phase began."""

    def render(self, task: Task) -> Text:
        seconds = task.elapsed or 0
        if not seconds or not task.completed:
            return Text("")
        rates = f"{task.completed / seconds:,.0f} rows/s"
        if tokens := task.fields.get("tokens"):
            rates += f"  {tokens / seconds:,.0f} tokens/s"
        return Text(rates)
