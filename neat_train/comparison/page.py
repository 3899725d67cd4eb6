"""The comparison as one HTML page that stands alone: tables, curves, and answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from neat_data.report.html import document, figure_of, folded, line, table_of, write_page
from neat_data.report.plots import SENTINELS, VARIABLES
from neat_data.report.tables import WARNING, Table, number
from neat_train.comparison.plots import FIGURES, drawable, inline_svg, style
from neat_train.comparison.result import Comparison, ShownAnswer, SideBySide
from neat_train.comparison.tables import arm_name, name_of, notes, tables


def write_report(comparison: Comparison, path: Path, more: Sequence[Table] = ()) -> None:
    """Write the page.

    Args:
        more: tables that are shown behind those of the comparison.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(page(comparison, more), path)


def page(comparison: Comparison, more: Sequence[Table] = ()) -> str:
    """The page as text, see `write_report`; the same comparison gives the same page."""
    remarks = notes(comparison.notes)
    shown = [table for table in tables(comparison) if table.title != remarks.title]
    body = f"""<h1>{_title(comparison)}</h1>
<p class="soft">{_subtitle(comparison)}</p>
<p class="warning">{escape(WARNING)}</p>
{_remarks(remarks)}
<div class="stack">{"".join(table_of(table) for table in shown[:1])}</div>
{_figures(comparison)}
<div class="stack">{"".join(table_of(table) for table in [*shown[1:], *more])}</div>
{_samples(comparison)}
<footer class="soft">Made by neat-train compare. Intervals are at 95 %.</footer>"""
    return document(f"{_title(comparison)}", body)


def _title(comparison: Comparison) -> str:
    names = [line(name_of(arm.name)) for arm in comparison.arms]
    return f"{', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}: compared"


def _subtitle(comparison: Comparison) -> str:
    runs = sum(len(arm.members) for arm in comparison.arms)
    models = ", ".join(line(model) for model in comparison.reward_models) or "none"
    name = line(comparison.queries.name)
    return f"{runs} runs · {comparison.queries.count:,} queries of {name} · reward models {models}"


def _remarks(remarks: Table) -> str:
    """What a reader must know before the figures."""
    items = "".join(f"<li>{escape(row[-1])}</li>" for row in remarks.rows)
    return (
        f'<section class="card"><h3>{escape(remarks.title)}</h3><ul class="notes">{items}</ul></section>'
        if items
        else ""
    )


def _figures(comparison: Comparison) -> str:
    names = drawable(comparison)
    if not names:
        return ""
    drawn = "".join(figure_of(FIGURES[name][0], inline_svg(name, comparison)) for name in names)
    return f'{_legend(comparison)}<div class="wide">{drawn}</div>'


def _legend(comparison: Comparison) -> str:
    """The arms with their colours, for all pictures; thin lines and small points are seeds."""
    lines = {"-": "solid", "--": "dashed", ":": "dotted"}
    entries = []
    for place, arm in enumerate(comparison.arms):
        colour, kind = style(place, SENTINELS)
        swatch = f'<i class="swatch" style="border-top: 3px {lines[kind]} {VARIABLES[colour]}"></i>'
        entries.append(f"<span>{swatch}{line(arm_name(arm))}</span>")
    return f'<p class="legend">{"".join(entries)}</p>'


def _samples(comparison: Comparison) -> str:
    if not comparison.samples:
        return ""
    articles = "".join(_sample(sample, comparison) for sample in comparison.samples)
    said = (
        "Answers at temperature 1 of each arm's first seed to the queries of the lowest ids, which are hashes: "
        "nobody picked them. Of a dialogue the last turn is shown."
    )
    return f'<section><h2>Answers side by side</h2><p class="soft">{said}</p>{articles}</section>'


def _sample(sample: SideBySide, comparison: Comparison) -> str:
    answers = "".join(_answer(answer, comparison) for answer in sample.answers)
    return (
        f'<article class="card pair"><header><strong>query</strong><span class="soft">{line(sample.source)} · '
        f'{line(sample.query_id)}</span></header>{folded(sample.query)}<div class="sides">{answers}</div></article>'
    )


def _answer(answer: ShownAnswer, comparison: Comparison) -> str:
    facts = [
        f"{name} {number(answer.rewards.get(model))}"
        for name, model in zip(("reward", "held-out"), comparison.reward_models, strict=False)
    ]
    end = "" if answer.finished is not False else "unfinished"
    nothing = "no answer: the query is too long" if answer.text is None else "an empty answer"
    text = folded(answer.text) if answer.text else f'<p class="soft">{nothing}</p>'
    return (
        f'<div class="side"><header><strong>{line(name_of(answer.arm))}</strong>'
        f'<span class="soft">{" · ".join([*facts, *([end] if end else [])])}</span></header>{text}</div>'
    )
