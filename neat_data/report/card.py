"""The body of a dataset's card: what it is, its figures, what was rejected, how to open it.

Markdown, made of the manifest and the stats alone, so the same dataset has the same card wherever and whenever it is
made. Names from the dataset are made visible and escaped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from neat_data.report.tables import WARNING, Table, agreement, length, rewards, shares, spread, unpaired
from neat_data.report.visible import one_line

if TYPE_CHECKING:
    from neat_data.stats import Stats
    from neat_data.store.dataset import PreferenceDataset

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&$!]|:(?=//)|(?<=www)\.)")
OPENING = """```python
import neat_data

dataset = neat_data.open("path/to/this/folder")
for record in dataset.records():   # queries with their responses, best first
    ...
dataset.scan()                     # polars LazyFrame, one row a response
dataset.to_hf()                    # datasets.Dataset
```"""


def card(dataset: PreferenceDataset, stats: Stats) -> str:
    """The card's body as Markdown; same dataset, same text."""
    figures = [shares(stats), spread(stats), agreement(stats), rewards(stats), length(stats), unpaired(stats)]
    parts = [
        "# Preference dataset with rewards",
        _summary(stats),
        f"> **Content warning.** {WARNING}",
        "## Reward model",
        _settings(dataset.manifest.settings.get("reward_model") or {}),
        "## Figures",
        *(_table(table) for table in figures if table.rows),
        "## What is in it",
        _table(_rounds(dataset)),
        _rejected(stats),
        "## How to open it",
        OPENING,
        "`neat-data stats`, `show` and `verify` work on this folder; rejected source rows are in `rejects/`.",
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    r"""Text that Markdown shows as it stands, on one line.

    >>> plain("[a](b) <i> | `c`")
    '\\[a\\](b) \\<i\\> \\| \\`c\\`'
    """
    return _MARKUP.sub(r"\\\1", one_line(text))


def _summary(stats: Stats) -> str:
    counts = stats.counts
    lost = sum(counts.rejected.values())
    rows = (
        ""
        if counts.source_rows is None
        else f" Made from {counts.source_rows:,} source rows, {lost:,} of them rejected."
    )
    return (
        f"{counts.records:,} queries with {counts.responses:,} responses and their rewards.{rows}\n"
        f"{counts.labels:,} labels say what people preferred, {counts.repeated:,} of them on a query that an earlier\n"
        f"row asked; they make {counts.pairs:,} pairs of a chosen and a rejected response."
    )


def _settings(reward_model: dict[str, Any]) -> str:
    """What the rewards were made with, one line a setting."""
    told = {name: value for name, value in sorted(reward_model.items()) if isinstance(value, str | int | float)}
    if not told:
        return "Not stated."
    return "\n".join(f"- {plain(name)}: {plain(str(value))}" for name, value in told.items())


def _rounds(dataset: PreferenceDataset) -> Table:
    rows = []
    for part in dataset.manifest.rounds:
        queries, responses = sum(s.rows for s in part.shards), sum(s.responses for s in part.shards)
        state = "complete" if part.complete else "unfinished"
        rows.append((str(part.round), f"{queries:,}", f"{responses:,}", f"{len(part.shards):,}", state))
    return Table("Rounds", ("round", "queries", "responses", "shards", "state"), tuple(rows))


def _rejected(stats: Stats) -> str:
    counts = stats.counts.rejected
    if not sum(counts.values()):
        return "No source row was rejected."
    rows = tuple((reason, f"{count:,}") for reason, count in counts.items() if count)
    return _table(Table("Rejected source rows", ("reason", "rows"), rows))


def _table(table: Table) -> str:
    lines = [f"**{plain(table.title)}**", ""] if table.title else []
    lines.append(_row(table.columns))
    lines.append("| --- |" + " ---: |" * (len(table.columns) - 1))
    lines += [_row(row) for row in table.rows]
    if table.note:
        lines += ["", plain(table.note)]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"
