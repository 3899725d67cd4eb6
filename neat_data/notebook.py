"""What a notebook shows of a dataset or a result: short HTML. All text is escaped, since it may be anybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def html_of_facts(line: str, facts: Mapping[str, str]) -> str:
    """A line, and a table of two columns.

    >>> html_of_facts("A & B", {"pairs": "3"})
    '<p>A &amp; B</p><table><tbody><tr><th style="text-align:left">pairs</th><td>3</td></tr></tbody></table>'
    """
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<p>{escape(line)}</p><table><tbody>{rows}</tbody></table>"


def figure(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number with the ends of its interval, where it has them; a dash where it is not defined.

    >>> figure(0.5, 0.41, 0.6), figure(None)
    ('0.500 (0.410 to 0.600)', '–')
    """
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _cells(record: Record) -> str:
    best, worst = record.responses[0], record.responses[-1]
    cells = [_short(record.messages[-1].content), *_shown(best), *(_shown(worst) if worst is not best else ("", ""))]
    return "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells)


def _shown(response: Response) -> tuple[str, str]:
    return _short(response.text), "" if response.reward is None else f"{response.reward:.3f}"


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
