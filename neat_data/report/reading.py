"""How rows of a source are read, for a person who checks that before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from neat_data.report.escape import visible
from neat_data.sources.row import Reject, Row

_LONGEST = 300


def print_reading(format: str, rows: Sequence[Row | Reject], console: Console) -> None:
    """The shape, then each row: its turns, its answers with what the source says of them, and what goes to meta."""
    console.print(Text(f"read as {format}"))
    for row in rows:
        place = row.place
        console.print(Text(f"\nrow {place.row} of {place.name}", style="bold"))
        lines = _reject(row) if isinstance(row, Reject) else _row(row)
        for line in lines:
            console.print(Text(visible(line)))


def _reject(reject: Reject) -> list[str]:
    raw = reject.raw if isinstance(reject.raw, str) else repr(reject.raw)
    return [f"  rejected, {reject.reason}: {reject.detail}", f"  {_short(raw)}"]


def _row(row: Row) -> list[str]:
    turns = [f"  {message.role}: {_short(message.content)}" for message in row.messages]
    answers = [f"  -> {_short(answer.text)}{_said(row, position)}" for position, answer in enumerate(row.answers)]
    meta = [f"  meta: {', '.join(row.meta)}"] if row.meta else []
    return [*turns, *answers, *meta]


def _said(row: Row, position: int) -> str:
    """What the source says of an answer: its verdict or place, and its reward."""
    said = []
    if row.verdict is not None:
        said.append("good" if row.verdict else "not good")
    elif position in row.order:
        said.append(f"place {row.order.index(position) + 1}")
    else:
        said.append("no verdict")
    if (reward := row.answers[position].reward) is not None:
        said.append(f"reward {reward:g}")
    return f"  [{', '.join(said)}]"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters)"
