"""The few lines that `score` and `verify` end with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from neat_data.report.visible import one_line

if TYPE_CHECKING:
    from neat_data.compact import CompactSummary
    from neat_data.rescore import RescoreSummary
    from neat_data.score import ScoreSummary
    from neat_data.store.verify import Verification


def print_score_summary(summary: ScoreSummary, console: Console) -> None:
    """Where every source row went, and what to do next."""
    counts = summary.counts
    rejected = counts["rejected"]
    lost = sum(rejected.values())
    if summary.already:
        _line(console, f"{summary.out} was complete already: same source, same settings; nothing was done.")
    stored = counts["source_rows"] - lost
    _line(
        console,
        f"{counts['source_rows']:,} rows: {stored:,} stored as {counts['records']:,} records with "
        f"{counts['responses']:,} responses ({counts['repeated_rows']:,} rows repeat a query), {lost:,} rejected.",
    )
    if rejected:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejected.items())
        _line(console, f"rejected: {reasons}; the rows are in {summary.out}/rejects")
    if counts["queries_cut"]:
        _line(console, f"{counts['queries_cut']:,} queries lost their oldest turns to fit the model's length.")
    _line(console, f"next: neat-data stats {summary.out}")


def print_rescore_summary(summary: RescoreSummary, console: Console) -> None:
    """What was scored, what was refused, and what to do next."""
    if not summary.scored_now:
        _line(console, f"scores/{summary.name} was complete already: same model, same settings; nothing was done.")
    _line(console, f"scores/{summary.name}: {summary.responses:,} responses, {summary.scored_now:,} scored now.")
    if summary.refused:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary.refused.items())
        _line(console, f"without a score: {reasons}")
    _line(console, f"next: neat-data stats {summary.dataset} --rank-by {summary.name}")


def print_compact_summary(summary: CompactSummary, console: Console) -> None:
    """What was folded, and what to do next."""
    if summary.already:
        _line(console, f"{summary.out} was complete already: same dataset, same settings; nothing was done.")
    counts = summary.counts
    _line(
        console,
        f"{counts['records']:,} records with {counts['responses']:,} responses; {summary.rounds:,} rounds folded in, "
        f"{summary.dropped:,} responses that people dropped left out.",
    )
    _line(console, f"next: neat-data verify {summary.out}")


def print_verification(result: Verification, console: Console) -> None:
    """Every finding on a line of its own, then the verdict."""
    for note in result.notes:
        _line(console, f"note: {note}")
    for finding in result.findings:
        _line(console, f"wrong: {finding}")
    verdict = "everything holds" if result.ok else f"{len(result.findings):,} things are wrong"
    _line(console, f"{result.shards:,} shards, {result.records:,} records, {result.responses:,} responses: {verdict}")


def _line(console: Console, text: str) -> None:
    console.print(one_line(text), markup=False, soft_wrap=True)
