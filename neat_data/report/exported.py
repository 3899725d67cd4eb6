"""The few lines that `export` ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from neat_data.report.visible import one_line

if TYPE_CHECKING:
    from neat_data.export.run import ExportSummary

_REASONS = {
    "one_response": "fewer than two responses",
    "no_response": "no response of the polarity that was asked for",
    "no_reward": "too few rewards",
    "tie": "equal rewards",
    "gap_too_small": "no gap wide enough",
    "no_label": "people said nothing that fits",
}


def print_export_summary(summary: ExportSummary, console: Console) -> None:
    """How many rows there are, and where every other record went."""
    _line(console, f"{summary.records:,} records: {summary.exported:,} gave {summary.rows:,} rows of {summary.to}.")
    for reason, count in sorted(summary.skipped.items()):
        _line(console, f"left out, {_REASONS.get(reason, reason)}: {count:,} records")
    if summary.responses_left_out:
        _line(console, f"{summary.responses_left_out:,} responses of another polarity were left out.")
    if summary.without_score:
        _line(console, f"{summary.without_score:,} responses of the dataset have no such score and were left out.")
    if summary.negative:
        _line(console, f"{summary.negative:,} responses sampled under a negative prompt were taken in.")
    _line(console, f"written: {summary.out}" + (f", uploaded: {summary.url}" if summary.url else ""))


def _line(console: Console, text: str) -> None:
    console.print(one_line(text), markup=False, soft_wrap=True)
