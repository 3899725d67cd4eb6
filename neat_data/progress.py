"""Who follows a long verb: the terminal's progress bar, or nobody. Everything goes to stderr."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from neat_data.errors import with_names


class Watcher(Protocol):
    """What a verb tells while it runs."""

    def phase(self, name: str, total: int | None, unit: str = " rows") -> None:
        """A new phase begins, of `total` rows (or what `unit` says) where that is known."""

    def advance(self, rows: int, tokens: int = 0) -> None:
        """So many rows and tokens were done since the last call."""

    def say(self, line: str, advice: str | None = None) -> None:
        """A line worth reading once, and what to do about it; `{name}` there stands for the argument of that name."""


class Silent:
    """A watcher that shows nothing."""

    def phase(self, name: str, total: int | None, unit: str = " rows") -> None: ...

    def advance(self, rows: int, tokens: int = 0) -> None: ...

    def say(self, line: str, advice: str | None = None) -> None: ...


class TerminalWatcher:
    """A progress bar with rows/s, tokens/s and the time left; a context manager."""

    def __init__(
        self, console: Console | None, logger: logging.Logger | None = None, name: Callable[[str], str] = str
    ) -> None:
        """With no console there is no bar. Lines stand above it, or go to `logger` where there is one.

        Args:
            name: what the user calls an argument that advice speaks of.
        """
        width = 80 if console is None else console.width
        self._progress = Progress(*columns(width), console=console, transient=True, disable=not lively(console))
        self._task = self._progress.add_task("starting", total=None, **counts())
        self._console, self._logger, self._name = console, logger, name

    def __enter__(self) -> TerminalWatcher:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int | None, unit: str = " rows") -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total, **counts(unit=unit))

    def advance(self, rows: int, tokens: int = 0) -> None:
        count(self._progress, self._task, rows, tokens)
        self._progress.advance(self._task, rows)

    def say(self, line: str, advice: str | None = None) -> None:
        line += f"; {with_names(advice, self._name)}" if advice else ""
        if self._logger is not None:
            self._logger.info("%s", line)
        elif self._console is not None:
            self._console.print(escape(line), highlight=False)


def lively(console: Console | None) -> bool:
    """Whether a line that changes can be seen there; into a file, rich would write an empty line at its end."""
    return console is not None and (console.is_interactive or console.is_jupyter)


def columns(width: int) -> list[ProgressColumn]:
    """What a line of progress shows in a terminal of `width` columns: name, bar, counts, rates and time left.

    From 80 columns on, nothing but the name is ever cut. Tasks carry the fields of `counts`.
    """
    whole = Column(no_wrap=True)
    bar = BarColumn(bar_width=max(8, min(24, width - 72)), table_column=whole)
    return [_Name(), bar, _Counts(whole), _Rates(whole), _TimeLeft(table_column=whole)]


def counts(unit: str = "") -> dict[str, Any]:
    """The fields of a task that nothing was done of; its rate is told in `unit` per second."""
    return {"unit": unit, "rows": 0, "tokens": 0}


def count(progress: Progress, task: TaskID, rows: int, tokens: int) -> None:
    """So many rows and tokens more for the rates of `task`."""
    fields = progress.tasks[progress.task_ids.index(task)].fields
    progress.update(task, rows=fields["rows"] + rows, tokens=fields["tokens"] + tokens)


def short(number: float) -> str:
    """`number`, which is not negative, in at most five characters.

    >>> [short(number) for number in (0.046, 9.96, 999.6, 42_130, 4_213_000, 1e19)]
    ['0.05', '10', '1.0k', '42k', '4.2M', '1e+19']
    """
    if number < 0.995:
        return f"{number:.2f}"
    scaled = number
    for power in ("", "k", "M", "B", "T"):
        if scaled < 999.5:
            return f"{scaled:.{0 if scaled >= 9.95 else 1}f}{power}"
        scaled /= 1_000
    return f"{number:.0e}"


class _Name(ProgressColumn):
    """What goes on: the column that gives way, being the only one that may wrap."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Counts(ProgressColumn):
    """Done of all, exact below a million."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else self._figure(task.total)
        return Text(f"{self._figure(task.completed):>{len(total)}}/{total}", style="progress.download")

    @staticmethod
    def _figure(rows: float) -> str:
        return f"{rows:.0f}" if rows < 1_000_000 else short(rows)


class _Rates(ProgressColumn):
    """Rows and tokens per second since the line began."""

    def render(self, task: Task) -> Text:
        seconds, rows, tokens = task.elapsed, task.fields["rows"], task.fields["tokens"]
        if not seconds or not rows:
            return Text("")
        rate = f"{short(rows / seconds)}{task.fields['unit']}/s"
        return Text(f"{rate}  {short(tokens / seconds)} tokens/s" if tokens else rate)


class _TimeLeft(TimeRemainingColumn):
    """The time left, from a hundred hours on in days."""

    def render(self, task: Task) -> Text:
        days = (task.time_remaining or 0) / 86_400
        return super().render(task) if days < 100 / 24 else Text(f"{short(days)} d", style="progress.remaining")


def say(watch: Watcher, notes: Collection[str]) -> None:
    for note in notes:
        watch.say(note)
