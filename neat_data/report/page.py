"""The report: one HTML page with the figures, the tables and the pairs worth reading.

It stands alone, and nothing of a dataset's text becomes markup: see `html`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import polars as pl

from neat_data.record import Message, Record, Response
from neat_data.report.html import document, figure_of, folded, line, table_of, write_page
from neat_data.report.plots import FIGURES, inline_svg
from neat_data.report.tables import WARNING, interval, level, number, percent, shares, tables

if TYPE_CHECKING:
    from neat_data.analysis.result import PairAt, Stats
    from neat_data.store.dataset import PreferenceDataset

FOLD_TURNS = 3  # a dialogue of more messages shows its last one, the rest folded


def write_report(dataset: PreferenceDataset, stats: Stats, path: Path) -> None:
    """Write the page.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(page(dataset, stats), path)


def page(dataset: PreferenceDataset, stats: Stats) -> str:
    """The page as text; the same dataset and stats give the same page."""
    name = line(PurePosixPath(str(dataset.path)).name or str(dataset.path))
    body = f"""<h1>{name}: how far apart are the responses?</h1>
<p class="soft">{_subtitle(stats)}</p>
<p class="warning">{escape(WARNING)}</p>
{_heads(stats)}
<div class="wide">{"".join(_figure(name, stats) for name in FIGURES)}</div>
<h2>Figures</h2>
<div class="wide">{"".join(table_of(table) for table in tables(stats))}</div>
{_examples(dataset, stats)}
<footer class="soft">Made by neat-data stats. Thresholds are strict; intervals are Wilson's, 95 %.</footer>"""
    return document(f"{name}: score gaps", body)


def _subtitle(stats: Stats) -> str:
    parts = [
        f"{stats.counts.records:,} records",
        f"{stats.counts.responses:,} responses",
        f"{stats.counts.pairs:,} pairs",
        f"reward model {line(stats.reward_model or 'not stated')}",
    ]
    if stats.rank_by is not None:
        parts.append(f"ranked by {line(stats.rank_by)}")
    if stats.where is not None:
        parts.append(f"where {line(stats.where)}")
    return " · ".join(parts)


def _heads(stats: Stats) -> str:
    """The headline figures as cards."""
    lines = [(f"of pairs: |gap| > {level(t.threshold)}", t.absolute) for t in stats.thresholds]
    lines += [("of pairs: the reward is against people", stats.disagreement), ("of pairs: a tie", stats.ties)]
    cards = [
        f'<div class="card"><b>{percent(share.share)}</b>{escape(name)}<p class="soft">{interval(share)} %</p></div>'
        for name, share in lines
    ]
    note = shares(stats).note
    return f'<div class="heads">{"".join(cards)}</div>' + (f'<p class="soft">{escape(note)}</p>' if note else "")


def _figure(name: str, stats: Stats) -> str:
    return figure_of(FIGURES[name][0], inline_svg(name, stats))


def _examples(dataset: PreferenceDataset, stats: Stats) -> str:
    kinds = [
        ("Widest gaps", stats.widest),
        ("Narrowest gaps", stats.narrowest),
        ("Most wrongly ordered: the reward prefers what people rejected", stats.wrong),
    ]
    records = _records(dataset, {pair.record for _, pairs in kinds for pair in pairs}, stats.rank_by)
    sections = [
        f"<section><h2>{escape(title)}</h2>{''.join(_pair(records[pair.record], pair) for pair in pairs)}</section>"
        for title, pairs in kinds
        if pairs
    ]
    return "\n".join(sections)


def _records(dataset: PreferenceDataset, rows: Iterable[int], rank_by: str | None) -> dict[int, Record]:
    """The records with these numbers, in one pass that keeps nothing else."""
    numbered = dataset.scan_records(rank_by=rank_by).with_row_index("record")
    frame = numbered.filter(pl.col("record").is_in(sorted(rows))).collect(engine="streaming")
    return {row.pop("record"): Record.from_dict(row) for row in frame.to_dicts()}


def _pair(record: Record, pair: PairAt) -> str:
    chosen, rejected = record.responses[pair.chosen], record.responses[pair.rejected]
    places = [f"{label.name} row {label.row}" for label in record.labels[:3]]
    return (
        f'<article class="card pair"><header><strong>gap {pair.gap:+.2f}</strong>'
        f'<span class="soft">{line(", ".join(places))} · {line(record.query_id)}</span></header>'
        f'{_dialogue(record.messages)}<div class="sides">'
        f"{_side('chosen', chosen)}{_side('rejected', rejected)}</div></article>"
    )


def _dialogue(messages: tuple[Message, ...]) -> str:
    if len(messages) <= FOLD_TURNS:
        return "".join(_turn(message) for message in messages)
    earlier = "".join(_turn(message) for message in messages[:-1])
    folded = f"<details><summary>{len(messages) - 1} earlier turns</summary>{earlier}</details>"
    return f"{folded}{_turn(messages[-1])}"


def _turn(message: Message) -> str:
    return f'<div class="turn"><div class="role">{line(message.role)}</div>{folded(message.content)}</div>'


def _side(kind: str, response: Response) -> str:
    origin = " ".join(part for part in (response.polarity, response.origin) if part)
    return (
        f'<div class="side {kind}"><header><strong>{kind}</strong><span>reward {number(response.reward)}</span>'
        f'<span class="soft">{line(origin)}</span></header>{folded(response.text)}</div>'
    )
