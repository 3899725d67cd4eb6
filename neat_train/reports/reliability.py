"""RUN/reliability.png: how often a reward model is right where it is how sure, as it was measured last."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from neat_data.report.plots import PAPER, SETTINGS, frame_of, legend_of
from neat_data.store.atomic import write_atomically

RELIABILITY = "reliability.png"


def points(measured: Mapping[str, float]) -> list[tuple[float, float, int]]:
    """Of each bin the mean confidence, the share that is right, and its pairs, from the figures of an evaluation.

    >>> points({"confidence/0.525": 0.52, "reliability/0.525": 0.6, "reliability_pairs/0.525": 5.0})
    [(0.52, 0.6, 5)]
    """
    bins = sorted(name.removeprefix("reliability/") for name in measured if name.startswith("reliability/"))
    return [
        (measured[f"confidence/{name}"], measured[f"reliability/{name}"], int(measured[f"reliability_pairs/{name}"]))
        for name in bins
    ]


def draw_reliability(run: Path, measured: Mapping[str, float]) -> None:
    """Draw the figures of an evaluation into the run's folder; nothing where they hold no pairs.

    Raises:
        RunError: the disk is full.
    """
    if drawn := points(measured):
        picture = _picture(drawn)
        write_atomically(run / RELIABILITY, lambda file: file.write(picture))


def _picture(drawn: list[tuple[float, float, int]]) -> bytes:
    confidence, right, pairs = ([100 * point[0] for point in drawn], [100 * point[1] for point in drawn], drawn)
    most = max(point[2] for point in pairs)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(4.8, 3.8), layout="constrained", facecolor=PAPER.ground)
        axes = figure.subplots()
        frame_of(axes, PAPER)
        axes.set_title("Reliability on held-out labels", loc="left", fontsize=10, color=PAPER.ink)
        axes.plot([50, 100], [50, 100], color=PAPER.ink, linewidth=0.8, linestyle=":", label="calibrated")
        axes.plot(confidence, right, color=PAPER.data[0], linewidth=1.8)
        sizes = [12 + 120 * point[2] / most for point in pairs]
        axes.scatter(confidence, right, s=sizes, color=PAPER.data[0], label="bins of pairs, by their number")
        axes.set_xlim(48, 102)
        axes.set_ylim(0, 102)
        axes.set_xlabel("mean confidence, %")
        axes.set_ylabel("pairs in people's order, %")
        legend_of(axes, PAPER, "lower right")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=140, metadata={"Software": None})
    return buffer.getvalue()
