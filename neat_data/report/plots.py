"""The four pictures of `stats`: gap, cumulative gap, rewards by origin, reward against length.

They are drawn from `Stats.figures` alone, which is of fixed size, with matplotlib (imported here and nowhere else).
Inside the HTML page a picture takes its colours from CSS variables, so that it follows light and dark: matplotlib draws
with sentinel colours, which are then replaced.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from neat_data.errors import RunError
from neat_data.report.escape import one_line
from neat_data.report.tables import level, percent
from neat_data.store.inside import refuse_inside_dataset

if TYPE_CHECKING:
    from neat_data.analysis.result import Stats
    from neat_data.store.dataset import PreferenceDataset


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one rendering: text, lines of the frame, data in order, marks on top of data, what lies behind."""

    ink: str
    frame: str
    data: tuple[str, ...]
    mark: str
    ground: str


DATA = ("#2f6db3", "#c8642b", "#3c8c5a", "#8257a8", "#b8860b", "#c2427f", "#1d8a99", "#6b6f76")
STAND_INS = ("#010205", "#010206", "#010207", "#010208", "#01020b", "#01020c", "#01020d", "#01020e")
PAPER = Palette("#1f2328", "#b8bec6", DATA, "#b3261e", "#ffffff")
SENTINELS = Palette("#010203", "#010204", STAND_INS, "#010209", "#01020a")
VARIABLES = {
    SENTINELS.ink: "var(--ink)",
    SENTINELS.frame: "var(--frame)",
    SENTINELS.mark: "var(--mark)",
    SENTINELS.ground: "var(--card)",
    **{colour: f"var(--data-{place})" for place, colour in enumerate(SENTINELS.data)},
}
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neat-align",  # ids do not change from run to run
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that layouts are the same everywhere
    "font.size": 10,
}
SIZE = (6.2, 3.5)  # inches


def draw_gap(axes: Axes, stats: Stats, palette: Palette) -> None:
    """Histogram of the signed gap, thresholds marked on both sides."""
    edges, counts = np.asarray(stats.figures.gap_edges), np.asarray(stats.figures.gap_counts)
    against = edges[1:] <= 0
    for part, colour, name in (
        (~against, palette.data[0], "for the chosen, ties too"),
        (against, palette.data[1], "for the rejected"),
    ):
        axes.bar(
            edges[:-1][part], counts[part], np.diff(edges)[part], align="edge", color=colour, label=name, linewidth=0
        )
    _mark_thresholds(axes, stats, palette, both=True)
    axes.set_xlabel("reward of chosen minus reward of rejected")
    axes.set_ylabel("pairs")
    axes.set_xlim(edges[0], edges[-1])
    legend_of(axes, palette)


def draw_cumulative(axes: Axes, stats: Stats, palette: Palette) -> None:
    """Share of pairs whose gap is larger than x."""
    sizes = np.asarray(stats.figures.cumulative)
    if not len(sizes):
        return _nothing(axes, palette)
    axes.plot(sizes, 100 - np.linspace(0, 100, len(sizes)), color=palette.data[0], linewidth=2)
    axes.set_xlim(0, max(_reach(stats), 1e-9))
    axes.set_ylim(0, 100)
    for threshold in stats.thresholds:
        if threshold.threshold <= axes.get_xlim()[1] and threshold.absolute.share is not None:
            share = 100 * threshold.absolute.share
            axes.plot([threshold.threshold], [share], "o", color=palette.mark, markersize=6)
            axes.annotate(
                f"{percent(threshold.absolute.share)} beyond {level(threshold.threshold)}",
                (threshold.threshold, share),
                xytext=(8, 8) if threshold.threshold < axes.get_xlim()[1] * 0.6 else (-8, 8),
                textcoords="offset points",
                ha="left" if threshold.threshold < axes.get_xlim()[1] * 0.6 else "right",
                color=palette.ink,
            )
    axes.set_xlabel("size of the gap")
    axes.set_ylabel("pairs with a larger one, %")
    return None


def draw_origin(axes: Axes, stats: Stats, palette: Palette) -> None:
    """Rewards of each origin, each scaled to its own number of responses."""
    edges = np.asarray(stats.figures.reward_edges)
    for place, (name, counts) in enumerate(sorted(stats.figures.reward_counts.items())):
        total = max(1, sum(counts))
        colour = palette.data[place % len(palette.data)]
        label = one_line(name)[:32].replace("$", r"\$")  # a dollar would begin matplotlib's formulas
        heights = 100 * np.asarray(counts) / total
        axes.stairs(heights, edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(heights, edges, color=colour, linewidth=1.8, label=f"{label} ({sum(counts):,})")
    axes.set_xlabel("reward")
    axes.set_ylabel("responses of that origin, %")
    legend_of(axes, palette)


def draw_length(axes: Axes, stats: Stats, palette: Palette) -> None:
    """How many responses have this length and this reward, and the mean reward at each length."""
    lengths, rewards = np.asarray(stats.figures.length_edges), np.asarray(stats.figures.reward_edges)
    counts = np.asarray(stats.figures.density)
    if not counts.any():
        return _nothing(axes, palette)
    across, up = np.nonzero(counts)
    corners = [
        [
            (lengths[i], rewards[j]),
            (lengths[i + 1], rewards[j]),
            (lengths[i + 1], rewards[j + 1]),
            (lengths[i], rewards[j + 1]),
        ]
        for i, j in zip(across, up, strict=True)
    ]
    strength = 0.08 + 0.87 * np.sqrt(counts[across, up] / counts.max())
    axes.add_collection(PolyCollection(corners, facecolors=palette.data[0], alpha=strength, linewidths=0))
    known = [(i, mean) for i, mean in enumerate(stats.figures.length_mean) if mean is not None and counts[i].sum() >= 5]
    middles = [float(np.sqrt(lengths[i] * lengths[i + 1])) for i, _ in known]
    axes.plot(middles, [mean for _, mean in known], color=palette.mark, linewidth=2, label="mean reward")
    axes.set_xscale("log")
    filled = np.flatnonzero(counts.sum(axis=1))
    axes.set_xlim(lengths[filled[0]], lengths[filled[-1] + 1])
    axes.set_ylim(rewards[0], rewards[-1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("characters")
    axes.set_ylabel("reward")
    legend_of(axes, palette)
    return None


FIGURES: dict[str, tuple[str, Callable[[Axes, Stats, Palette], None]]] = {
    "gap": ("The gap; bars at either end hold what lies beyond", draw_gap),
    "cumulative": ("How many pairs have a larger gap", draw_cumulative),
    "origin": ("Rewards by origin", draw_origin),
    "length": ("Reward against length", draw_length),
}


def write_plots(dataset: PreferenceDataset, stats: Stats, folder: Path) -> None:
    """Write every picture as PNG and SVG.

    Raises:
        RunError: the folder cannot be written.
    """
    refuse_inside_dataset(folder / "plots")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FIGURES:
            for kind in ("png", "svg"):
                (folder / f"{name}.{kind}").write_bytes(_picture(name, stats, PAPER, kind))
    except OSError as error:
        raise RunError(f"{folder}: cannot write the plots there ({error.strerror})") from error


def inline_svg(name: str, stats: Stats) -> str:
    """The picture as an `<svg>` element whose colours are CSS variables and whose ids are its own."""
    return inline(_picture(name, stats, SENTINELS, "svg"), name, FIGURES[name][0])


def inline(svg: bytes, name: str, caption: str) -> str:
    """An SVG that was drawn with `SENTINELS` as an element of a page.

    Args:
        name: unlike that of any other picture on the page; its ids begin with it.
        caption: HTML already, for who cannot see the picture.
    """
    text = svg.decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', rf'<svg role="img" aria-label="{caption}" \1', text, count=1
    )


def _picture(name: str, stats: Stats, palette: Palette, kind: str) -> bytes:
    return picture(lambda axes: FIGURES[name][1](axes, stats, palette), palette, kind)


def picture(draw: Callable[[Axes], object], palette: Palette, kind: str, size: tuple[float, float] = SIZE) -> bytes:
    """What `draw` draws into one frame, as a file of this kind: svg or png."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained", facecolor=palette.ground)
        axes = figure.subplots()
        frame_of(axes, palette)
        draw(axes)
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def frame_of(axes: Axes, palette: Palette) -> None:
    """Two spines, faint lines across, everything in the palette's colours."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.frame)
    axes.tick_params(which="both", color=palette.frame, labelcolor=palette.ink, labelsize=9)
    axes.xaxis.label.set_color(palette.ink)
    axes.yaxis.label.set_color(palette.ink)
    axes.yaxis.grid(visible=True, color=palette.frame, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)


def legend_of(axes: Axes, palette: Palette, place: str = "best") -> None:
    """A legend where there is something to tell apart."""
    if axes.get_legend_handles_labels()[0]:
        look: Any = {"facecolor": palette.ground, "edgecolor": "none", "labelcolor": palette.ink, "loc": place}
        axes.legend(framealpha=0.85, fontsize=9, **look)


def _mark_thresholds(axes: Axes, stats: Stats, palette: Palette, *, both: bool) -> None:
    low, high = stats.figures.gap_edges[0], stats.figures.gap_edges[-1]
    top = axes.get_ylim()[1]
    for threshold in stats.thresholds:
        for position in {threshold.threshold, -threshold.threshold if both else threshold.threshold}:
            if low < position < high:
                axes.axvline(position, color=palette.mark, linewidth=1, linestyle=(0, (4, 3)))
                text = f"{'−' if position < 0 else ''}{level(threshold.threshold)}"
                axes.text(position, top, text, color=palette.mark, ha="center", va="bottom", fontsize=9)


def _reach(stats: Stats) -> float:
    return stats.figures.gap_edges[-1]


def _nothing(axes: Axes, palette: Palette) -> None:
    axes.text(0.5, 0.5, "nothing to draw", color=palette.ink, ha="center", transform=axes.transAxes)
