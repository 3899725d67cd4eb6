"""What `neat-train fit` ends with: the figures of a run, read from its metrics.jsonl, and one short table of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from neat_data.notebook import figure, html_of_facts
from neat_data.plain import Plain
from neat_data.report.tables import MISSING, Table, in_time, number
from neat_data.report.terminal import print_line, print_tables
from neat_train.training.metrics import read

_EVAL = "eval_"
_AMOUNTS = ("records", "responses", "response_tokens", "tokens")
_SAMPLED = "round/responses"
# Counts of the encoder that tell of a loss, once for every time that a record is met.
_CUT = {
    "queries_cut": "queries lost their oldest turns to max_length",
    "query_too_long": "records left out, their query being too long",
    "template_refused": "records left out, refused by the chat template",
    "responses_cut": "responses cut at max_response",
    "response_too_long": "responses left out, longer than max_response",
    "empty": "empty responses left out",
    "thought_refused": "responses left out, their thought not fitting the chat template's header",
    "retokenised": "samples tokenised again",
}
_FILES = ("README.md", "curves.png", "reliability.png", "metrics.jsonl", "samples.jsonl", "dataset")


@dataclass(frozen=True, slots=True)
class HeldOutFigures(Plain):
    """What was measured on held-out queries, by name and each with its `step`; empty where nothing was measured.

    Attributes:
        best: at the highest mean reward; of a reward model, at the highest accuracy.
    """

    start: Mapping[str, Any]
    end: Mapping[str, Any]
    best: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrainedCounts(Plain):
    """What was trained on in all steps, that of later epochs again; `tokens` are all that ran."""

    records: int
    responses: int
    response_tokens: int
    tokens: int


@dataclass(frozen=True, slots=True)
class FitResult(Plain):
    """The figures of a run.

    Attributes:
        steps, epochs: optimiser steps, and passes over the records.
        encoded: how often something was cut or left out, by its name in the metrics.
        sampled: responses of online rounds.
        dropped: those of them that were not used, by reason.
        seconds: of the last session's training; None where it was not measured.
        session_began: the step that session began with; None where no step was left, or it is not known.
    """

    steps: int
    epochs: float | None
    held_out: HeldOutFigures
    trained: TrainedCounts
    encoded: Mapping[str, int]
    sampled: int
    dropped: Mapping[str, int]
    seconds: float | None
    session_began: int | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows: what was trained on, and the held-out figures at the start, the best and the end."""
        facts = {"epochs": figure(self.epochs), "records": f"{self.trained.records:,}"}
        for when in ("start", "best", "end"):
            measured = getattr(self.held_out, when)
            facts |= {
                f"{name}, {when}": figure(measured[name]) for name in ("reward", "perplexity") if name in measured
            }
        return html_of_facts(f"{self.steps:,} steps", facts)


def figures(run: Path, session_began: int | None = None) -> FitResult:
    """The figures of a run, from its metrics; `session_began` as in `FitResult`."""
    frame = read(run)
    measured = _measured(frame)
    rank = "reward" if any("reward" in row for row in measured) else "accuracy"
    scored = [row for row in measured if rank in row]
    return FitResult(
        steps=int(_last(frame, "step") or 0),
        epochs=_last(frame, "epoch"),
        held_out=HeldOutFigures(
            start=measured[0] if measured else {},
            end=measured[-1] if measured else {},
            best=max(scored, key=lambda row: row[rank]) if scored else {},
        ),
        trained=TrainedCounts(**{name: _total(frame, name) for name in _AMOUNTS}),
        encoded=_totals(frame, "encoder/"),
        sampled=_total(frame, _SAMPLED),
        dropped=_totals(frame, "round/dropped/"),
        seconds=_last(frame, "train_runtime"),
        session_began=session_began,
    )


def _measured(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Every evaluation, in order, its names without their prefix."""
    names = [name for name in frame.columns if name.startswith(_EVAL)]
    rows = frame.select("step", *names).to_dicts() if names else []
    measured = [{name.removeprefix(_EVAL): value for name, value in row.items() if value is not None} for row in rows]
    return [row for row in measured if len(row) > 1]


def _last(frame: pl.DataFrame, column: str) -> float | None:
    values = frame[column].drop_nulls().to_list() if column in frame.columns else []
    return values[-1] if values else None


def _total(frame: pl.DataFrame, column: str) -> int:
    return int(frame[column].sum()) if column in frame.columns else 0


def _totals(frame: pl.DataFrame, prefix: str) -> dict[str, int]:
    names = [name for name in frame.columns if name.startswith(prefix)]
    return {name.removeprefix(prefix): _total(frame, name) for name in names}


def print_fit_summary(run: Path, result: FitResult, console: Console, *, already: bool = False) -> None:
    """One short table of `figures(run)`, where the run is, and what to do next."""
    if already:
        print_line(console, f"{run} was complete already: same data, same settings; nothing was done.")
    print_line(console, f"{result.steps:,} steps{_amounts(result)}.")
    if lost := _losses(result):
        print_line(console, f"{'; '.join(lost)}.")
    console.print()
    if table := held_out_table(result.held_out):
        print_tables([table], console)
    adapter = (run / "adapter_config.json").exists()
    there = [name for name in _FILES if (run / name).exists()]
    print_line(console, f"{run}: {', '.join(['adapter' if adapter else 'weights', *there])}")
    if (run / "base.json").exists() or result.held_out.end.get("accuracy") is not None:
        print_line(console, f"next: neat-data score SOURCE --reward-model {run} --out FOLDER")
    elif adapter:
        print_line(console, f"next: neat-train export {run} --merge --out {run}-merged")


def _losses(result: FitResult) -> list[str]:
    """What was cut or left out on the way, in words."""
    lost = [f"{result.encoded[name]:,} {words}" for name, words in _CUT.items() if result.encoded.get(name)]
    if result.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.dropped.items()))
        lost.append(f"samples not used: {reasons}")
    return lost


def _amounts(result: FitResult) -> str:
    trained = result.trained
    parts = [f"{trained.records:,} records with {trained.responses:,} responses"] if trained.responses else []
    if not parts and trained.records:
        parts.append(f"{trained.records:,} records")
    if result.sampled:
        parts.append(f"{result.sampled:,} responses sampled")
    if trained.tokens:
        parts.append(f"{trained.tokens:,} tokens")
    if result.seconds:
        parts.append(in_time(result.seconds))
    return f": {', '.join(parts)}" if parts else ""


def _shown(held_out: HeldOutFigures) -> list[Mapping[str, Any]]:
    start, best, end = held_out.start, held_out.best, held_out.end
    steps = [start, end] if start["step"] != end["step"] else [end]
    if best and best["step"] not in (start["step"], end["step"]):
        steps.insert(1, best)
    return steps


def _reward_table(held_out: HeldOutFigures) -> Table:
    """Of a reward model: whom it agrees with."""
    rows = tuple((_when(at, held_out.best), *_agreement(at)) for at in _shown(held_out))
    columns = ("step", "accuracy", "95 % interval", "calibration error", "length correlation", "loss")
    pairs, verdicts = (held_out.end.get(name, 0) for name in ("pairs", "verdicts"))
    counted = [f"{count:,.0f} {name}" for name, count in (("pairs", pairs), ("verdicts", verdicts)) if count]
    return Table("Held-out labels", columns, rows, f"Accuracy on {' and '.join(counted)}; a tie is a miss.")


def _agreement(at: Mapping[str, Any]) -> tuple[str, ...]:
    share = at.get("accuracy", at.get("verdict_accuracy"))
    interval = f"{100 * at['accuracy_low']:.1f} to {100 * at['accuracy_high']:.1f}" if "accuracy_low" in at else MISSING
    ece = f"{100 * at['ece']:.1f} %" if "ece" in at else MISSING
    return (
        MISSING if share is None else f"{100 * share:.1f} %",
        interval,
        ece,
        number(at.get("length_correlation")),
        number(at.get("loss")),
    )


def held_out_table(held_out: HeldOutFigures) -> Table | None:
    """Held-out figures at the start, at the best mean reward where that is another step, and at the end."""
    best, end = held_out.best, held_out.end
    if not end:
        return None
    if "accuracy" in end or "verdict_accuracy" in end:
        return _reward_table(held_out)
    rows = tuple((_when(at, best), *_cells(at)) for at in _shown(held_out))
    columns = ("step", "mean reward", "95 % interval", "perplexity", "tokens", "finished")
    queries = end.get("answers")
    note = (
        f"Rewards of fresh answers, one a query ({queries:,.0f}); perplexity of the chosen responses."
        if queries
        else ""
    )
    return Table("Held-out queries", columns, rows, note)


def _when(row: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    return f"{row['step']:,}{', best' if row['step'] == best.get('step') else ''}"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = f"{number(row['reward_low'])} to {number(row['reward_high'])}" if "reward_low" in row else MISSING
    length = f"{row['length']:.0f}" if "length" in row else MISSING
    finished = f"{100 * row['finished']:.0f} %" if "finished" in row else MISSING
    return (number(row.get("reward")), interval, number(row.get("perplexity")), length, finished)
