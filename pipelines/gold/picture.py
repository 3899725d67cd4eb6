"""Proxy and gold reward against the square root of KL, side by side: where the left rises and the right falls, training
has begun to exploit the proxy. The axis is that of Gao et al. 2023, on which distance adds up.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neat_data.report.plots import PAPER, SETTINGS, frame_of
from neat_data.store.atomic import write_atomically
from pipelines.gold.points import ROLES

TITLES = {"proxy": "Proxy: what training sees", "gold": "Gold: what it stands for"}


def draw(result: dict[str, Any], file: Path) -> None:
    """The picture of `result_of`, as a PNG."""
    with matplotlib.rc_context(SETTINGS):
        drawn = io.BytesIO()
        figure_of(result).savefig(drawn, format="png", dpi=150)
    write_atomically(file, lambda out: out.write(drawn.getvalue()))


def figure_of(result: dict[str, Any]) -> Figure:
    """Two panels, the legend below them, where it covers no point."""
    figure = Figure(figsize=(11, 4.6), layout="constrained", facecolor=PAPER.ground)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, role in zip(panels, ROLES, strict=True):
        _panel(axes, role, result)
    panels[0].set_ylabel("mean reward, in standard\ndeviations of the start's")
    look: dict[str, Any] = {"fontsize": 9, "frameon": False, "labelcolor": PAPER.ink}
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, **look)
    return figure


def _panel(axes: Axes, role: str, result: dict[str, Any]) -> None:
    best_of = result["best_of_n"]
    _line(axes, [one["kl"] for one in best_of], [one[role] for one in best_of], PAPER.ink, "best of n", "--")
    for place, (name, arm) in enumerate(result["arms"].items()):
        points = sorted(arm["points"], key=lambda one: one["step"])
        kl = [max(0.0, one["kl"]["value"]) for one in points]
        _line(axes, kl, [one[role] for one in points], PAPER.data[place % len(PAPER.data)], name, "-")
    axes.axhline(0, color=PAPER.frame, linewidth=1, zorder=0)
    axes.set_title(TITLES[role], color=PAPER.ink)
    axes.set_xlabel("square root of KL from the start, nats a response")
    frame_of(axes, PAPER)


def _line(axes: Axes, kl: list[float], rewards: list[dict[str, float]], colour: str, name: str, style: str) -> None:
    """A line through the means with 95 % intervals."""
    means, low, high = (np.array([one[end] for one in rewards]) for end in ("value", "low", "high"))
    axes.errorbar(
        np.sqrt(kl),
        means,
        yerr=np.abs([means - low, high - means]),
        color=colour,
        linestyle=style,
        marker="o",
        markersize=4,
        linewidth=1.8,
        elinewidth=0.9,
        label=name,
    )
