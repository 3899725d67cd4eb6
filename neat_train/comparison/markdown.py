"""A comparison as Markdown, for a README or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from neat_data.errors import RunError
from neat_data.report.tables import Table
from neat_data.store.atomic import write_atomically
from neat_data.store.inside import refuse_inside_dataset

_MARKUP = re.compile(r"([\\`*_\[\]<>|#~$&])")


def markdown(tables: Iterable[Table]) -> str:
    """Every table with its heading and its note."""
    return "\n".join(_table(table) for table in tables)


def write_markdown(tables: Iterable[Table], path: Path) -> None:
    """Write them into a file.

    Raises:
        RunError: it cannot be written.
    """
    content = markdown(tables).encode()
    refuse_inside_dataset(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise RunError(f"{path}: cannot write the tables there ({error.strerror})") from error


def _table(table: Table) -> str:
    lines = [f"### {escaped(table.title)}", ""]
    if any(table.columns):
        rules = ["---", *["---:"] * (len(table.columns) - 1)]
        lines += [_row(map(escaped, table.columns)), _row(rules), *(_row(map(escaped, row)) for row in table.rows)]
    else:
        lines += [f"- {escaped(row[-1])}" for row in table.rows]
    return "\n".join([*lines, "", *([escaped(table.note), ""] if table.note else [])])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is.

    >>> escaped("a|b <i> [0.1]")
    'a\\\\|b \\\\<i\\\\> \\\\[0.1\\\\]'
    """
    return _MARKUP.sub(r"\\\1", text)
