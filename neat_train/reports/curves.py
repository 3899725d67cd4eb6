"""RUN/curves.png: what a run did, drawn from its metrics.jsonl with matplotlib.

A panel is drawn where there is something to draw: DPO and SFT log other figures than NEAT. Long series are drawn twice,
as they are in a faint line and smoothed in a strong one.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator

from neat_data.report.escape import one_line
from neat_data.report.plots import PAPER, SETTINGS, frame_of, legend_of
from neat_data.store.atomic import write_atomically
from neat_train.training.metrics import read

CURVES = "curves.png"
_COLUMNS = 3
_WIDTH, _HEIGHT = 4.8, 2.9  # inches of a panel
_MARKED = 24  # up to so many points each has a mark
_SMOOTHED = 40  # from so many on, a line is smoothed, its points faint behind it
_OUTER = (0.5, 99.5)  # per cent of a smoothed line's points that decide the axis: one spike does not flatten the rest
_HEADROOM = 0.15  # of an axis' height, for each line of a legend
_LEAST = 0.05  # of its values, that an axis spans at least: what hardly changes is to look like it
_LOGARITHMIC = 20.0  # largest over smallest value from which an axis that allows it is logarithmic


@dataclass(frozen=True, slots=True)
class Line:
    """A column of the metrics and what it is called; `factor` turns it into the axis' unit."""

    column: str
    label: str
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture within the picture: the lines that it draws of those that there are.

    Attributes:
        band: columns of the lower and the upper end around the first line.
        share: whether the axis runs from 0 to 100 %.
        log: whether the axis may be logarithmic.
        factor: turns the band's columns into the axis' unit.
    """

    title: str
    unit: str
    lines: tuple[Line, ...]
    band: tuple[str, str] | None = None
    share: bool = False
    log: bool = False
    factor: float = 1.0


_HELD_OUT = "fresh answers to held-out queries"
PANELS = (
    Panel("Reward", "mean reward", (Line("eval_reward", _HELD_OUT),), band=("eval_reward_low", "eval_reward_high")),
    Panel(
        "Accuracy on held-out labels",
        "%",
        (Line("eval_accuracy", "pairs in people's order", 100), Line("eval_verdict_accuracy", "verdicts", 100)),
        band=("eval_accuracy_low", "eval_accuracy_high"),
        share=True,
        factor=100,
    ),
    Panel("Expected calibration error", "%", (Line("eval_ece", "", 100),)),
    Panel(
        "Accuracy by the distance of scores",
        "%",
        tuple(Line(f"eval_accuracy_from_gap/{start:g}", f"from {start:g}", 100) for start in (0.0, 0.5, 1.0, 2.0)),
        share=True,
    ),
    Panel("Correlation of score and length", "Spearman's", (Line("eval_length_correlation", ""),)),
    Panel("Perplexity of held-out chosen responses", "perplexity", (Line("eval_perplexity", ""),), log=True),
    Panel("Length of held-out answers", "tokens", (Line("eval_length", ""),)),
    Panel(
        "Terms of the loss, not weighed",
        "mean over records",
        (Line("sft", "SFT"), Line("ranking", "ranking"), Line("penalty", "penalty")),
    ),
    Panel("Loss", "loss", (Line("loss", "trained on"), Line("eval_loss", "held out"))),
    Panel(
        "Log-probability of the best and the worst response",
        "nats a token",
        (Line("best_logp", "best"), Line("worst_logp", "worst")),
    ),
    Panel(
        "Log-ratio to the reference",
        "nats a response",
        (Line("best_ratio", "best"), Line("worst_ratio", "worst")),
    ),
    Panel(
        "Log-probability of chosen and rejected",
        "nats a response",
        (Line("logps/chosen", "chosen"), Line("logps/rejected", "rejected")),
    ),
    Panel(
        "Ranking",
        "%",
        (
            Line("ranking_accuracy", "pairs in the order of their rewards", 100),
            Line("ratio_accuracy", "pairs in which the better gained more", 100),
            Line("negative_worst", "records whose worst was negative-prompted", 100),
            Line("rewards/accuracies", "pairs in the order of their labels", 100),
            Line("accuracy", "labels whose first scores above their last", 100),
        ),
        share=True,
    ),
    Panel("Gradient", "norm before clipping", (Line("grad_norm", ""),), log=True),
    Panel("Learning rate", "", (Line("learning_rate", ""),)),
)


def draw(run: Path) -> Path:
    """Draw the curves of a run, finished or not.

    Returns:
        The picture's path.

    Raises:
        InputError: metrics.jsonl is damaged.
        RunError: the disk is full.
    """
    frame = read(run)
    picture = _picture(frame, [panel for panel in _with_rounds(frame) if _drawn(frame, panel)])
    write_atomically(run / CURVES, lambda file: file.write(picture))
    return run / CURVES


def _with_rounds(frame: pl.DataFrame) -> Iterator[Panel]:
    """The panels, and beside the held-out reward that of the responses that rounds sampled, prompt by prompt."""
    first, *rest = PANELS
    sampled = [Line(name, f"sampled, {prompt}") for name, prompt in round_rewards(frame.columns)]
    yield Panel(first.title, first.unit, (*first.lines, *sampled), first.band)
    yield from rest


def round_rewards(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Columns of mean rewards of what rounds sampled, each with the name of its prompt."""
    marks = "round/reward/"
    return [(name, one_line(name.removeprefix(marks))) for name in columns if name.startswith(marks)]


def _drawn(frame: pl.DataFrame, panel: Panel) -> bool:
    return any(len(series(frame, line.column)[0]) for line in panel.lines)


def series(frame: pl.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps at which a figure was logged, and its values; both empty where it never was."""
    if column not in frame.columns:
        return np.empty(0), np.empty(0)
    points = frame.select("step", pl.col(column).cast(pl.Float64, strict=False)).drop_nulls()
    return points["step"].to_numpy(), points[column].to_numpy()


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean over a window around each point, narrower at the ends.

    >>> smooth(np.array([0.0, 3.0, 6.0, 9.0])).tolist()
    [3.0, 4.5, 4.5, 6.0]
    """
    window = max(5, len(values) // 25) | 1  # odd, so that the point is in its middle
    return pl.Series(values).rolling_mean(window, center=True, min_samples=1).to_numpy()


def _picture(frame: pl.DataFrame, panels: Sequence[Panel]) -> bytes:
    columns = max(1, min(_COLUMNS, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained", facecolor=PAPER.ground)
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for panel in panels:
            _draw(next(grid), frame, panel)
        for empty in grid:
            empty.set_axis_off()
        if not panels:
            figure.text(0.5, 0.5, "nothing was logged yet", color=PAPER.ink, ha="center")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=140, metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Axes, frame: pl.DataFrame, panel: Panel) -> None:
    frame_of(axes, PAPER)
    axes.set_title(panel.title, loc="left", fontsize=10, color=PAPER.ink)
    axes.set_ylabel(panel.unit)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    _steps_axis(axes, frame)
    seen = [_line(axes, frame, line, colour) for line, colour in zip(panel.lines, _colours(panel), strict=True)]
    if panel.band:
        seen.append(_band(axes, frame, panel.band, panel.factor))
    _limit(axes, np.concatenate(seen), panel)
    legend_of(axes, PAPER, "upper left")


def _steps_axis(axes: Axes, frame: pl.DataFrame) -> None:
    """The same for every panel, so that what happened at one time stands above each other."""
    last = max(1, int(frame["step"].to_numpy().max()))
    axes.set_xlim(-0.02 * last, 1.02 * last)
    axes.set_xlabel("optimiser steps")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _colours(panel: Panel) -> list[str]:
    return [PAPER.data[place % len(PAPER.data)] for place in range(len(panel.lines))]


def _line(axes: Axes, frame: pl.DataFrame, line: Line, colour: str) -> np.ndarray:
    """Draw one line; returns the values that the axis should show."""
    steps, values = series(frame, line.column)
    values = values * line.factor
    if not len(values):
        return values
    long = len(values) >= _SMOOTHED
    strong = smooth(values) if long else values
    if long:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.6)
    marker = "o" if len(values) <= _MARKED else ""
    axes.plot(steps, strong, color=colour, linewidth=1.8, marker=marker, markersize=4, label=_label(line))
    return np.concatenate([strong, np.percentile(values, _OUTER)]) if long else values


def _label(line: Line) -> str | None:
    """A dollar would begin matplotlib's formulas, an underscore hides a line from the legend."""
    return line.label.replace("$", r"\$").lstrip("_")[:48] or None


def _band(axes: Axes, frame: pl.DataFrame, ends: tuple[str, str], factor: float) -> np.ndarray:
    """The 95 % interval around the first line."""
    steps, low = series(frame, ends[0])
    _, high = series(frame, ends[1])
    low, high = factor * low, factor * high
    if len(steps) == 1:
        axes.vlines(steps, low, high, color=PAPER.data[0], linewidth=1.8)
    elif len(steps):
        axes.fill_between(steps, low, high, color=PAPER.data[0], alpha=0.18, linewidth=0, label="95 % interval")
    return np.concatenate([low, high])


def _limit(axes: Axes, values: np.ndarray, panel: Panel) -> None:
    """An axis that shows these values with some room around them, and a legend above them."""
    names = len(axes.get_legend_handles_labels()[1])
    low, high = (0.0, 100.0) if panel.share else (float(values.min()), float(values.max()))
    if panel.share:
        axes.set_yticks(range(0, 101, 20))
    if panel.log and low > 0 and high / low > _LOGARITHMIC:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    span = max(high - low, _LEAST * max(abs(low), abs(high))) or 1.0
    spare = (span - (high - low)) / 2
    axes.set_ylim(low - spare - 0.05 * span, high + spare + (0.05 + _HEADROOM * names) * span)
