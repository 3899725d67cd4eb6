"""A dataset in a notebook: a line and its first records, as HTML. All text is escaped, since it may be anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from neat_data.record import Record, Response

CHARACTERS = 160  # of a text that are shown


def html_of(line: str, records: Sequence[Record]) -> str:
    """A line, and a table of records: the query's last turn, the best response and the worst, with their rewards.

    Args:
        line: what the dataset is, as plain text.
        records: with a response each.
    """
    heads = "".join(f"<th>{head}</th>" for head in ("query", "best", "reward", "worst", "reward"))
    rows = "".join(f"<tr>{_cells(record)}</tr>" for record in records)
    return f"<p>{escape(line)}</p><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(record: Record) -> str:
    best, worst = record.responses[0], record.responses[-1]
    cells = [_short(record.messages[-1].content), *_shown(best), *(_shown(worst) if worst is not best else ("", ""))]
    return "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells)


def _shown(response: Response) -> tuple[str, str]:
    return _short(response.text), "" if response.reward is None else f"{response.reward:.3f}"


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
