"""The pictures of a comparison: Figure 3 of the paper, and reward against the distance from the start.

An arm has one colour in both, and a dashed line from the ninth on. On the page the legend is HTML, which reflows; in a
file of its own a picture carries it inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from neat_data.errors import RunError
from neat_data.report.escape import one_line
from neat_data.report.plots import PAPER, SENTINELS, Palette, inline, legend_of, picture
from neat_data.store.inside import refuse_inside_dataset
from neat_train.comparison.result import Arm, Comparison, Curve, Figure

SIZE = (7.2, 4.2)  # inches
_LABEL = 32  # characters of a name


def style(place: int, palette: Palette) -> tuple[str, str]:
    """Colour and line of the arm at this place."""
    count = len(palette.data)
    return palette.data[place % count], ("-", "--", ":")[place // count % 3]


def draw_progress(axes: Axes, comparison: Comparison, palette: Palette) -> None:
    """Held-out reward while training: a faint line for each seed, a strong one for their mean."""
    for place, arm in enumerate(comparison.arms):
        curves = [curve for curve in comparison.curves if curve.arm == arm.name]
        if not curves:
            continue
        colour, line = style(place, palette)
        if len(curves) > 1:
            for curve in curves:
                axes.plot(curve.epochs, curve.rewards, color=colour, linestyle=line, linewidth=0.8, alpha=0.35)
        epochs, means = mean_curve(curves)
        axes.plot(epochs, means, line, color=colour, linewidth=2, marker="o", markersize=3.5, label=_label(arm))
    axes.set_xlabel("epochs")
    axes.set_ylabel("mean reward of fresh answers")
    axes.xaxis.set_major_locator(MaxNLocator(6))


def mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and the mean over seeds, where all of them are; between two evaluations of a seed a straight line.

    >>> a, b = Curve("a", 0, (0, 2), (0.0, 1.0), (0.0, 1.0)), Curve("a", 1, (0, 1), (0.0, 0.5), (2.0, 3.0))
    >>> [axis.tolist() for axis in mean_curve([a, b])]
    [[0.0, 0.5], [1.0, 1.75]]
    """
    first, last = max(curve.epochs[0] for curve in curves), min(curve.epochs[-1] for curve in curves)
    epochs = np.unique([epoch for curve in curves for epoch in curve.epochs if first <= epoch <= last])
    return epochs, np.mean([np.interp(epochs, curve.epochs, curve.rewards) for curve in curves], axis=0)


def draw_distance(axes: Axes, comparison: Comparison, palette: Palette) -> None:
    """Reward against KL: a small point for each seed, a large one with its intervals for the arm."""
    for place, arm in enumerate(comparison.arms):
        point = _point(arm, comparison.reward_models)
        if point is None:
            continue
        colour = style(place, palette)[0]
        if arm.seeds > 1:
            seeds = [(member.kl, member.reward) for member in arm.members if None not in (member.kl, member.reward)]
            axes.plot(*zip(*seeds, strict=True), "o", color=colour, markersize=4, alpha=0.45, linestyle="none")
        (kl, across), (reward, up) = point
        marker = ("o", "s", "D")[place // len(palette.data) % 3]
        axes.errorbar(kl, reward, up, across, fmt=marker, color=colour, markersize=8, elinewidth=1.2, label=_label(arm))
    if axes.dataLim.x0 >= 0:  # it is an estimate, which can be below 0
        axes.set_xlim(left=0)
    axes.set_xlabel("KL from the start, nats a response")
    axes.set_ylabel("mean reward")


Ends = list[list[float]]


def _point(arm: Arm, models: Sequence[str]) -> tuple[tuple[float, Ends], tuple[float, Ends]] | None:
    """KL and reward of an arm, each with how far its interval reaches below and above."""
    kl = arm.figures.get("kl_per_response")
    reward = arm.figures.get(f"sampled/reward/{models[0]}") if models else None
    if kl is None or reward is None:
        return None
    return (kl.value, _reach(kl)), (reward.value, _reach(reward))


def _reach(figure: Figure) -> Ends:
    """Where all values are the same, rounding can put the value outside its interval by a last digit."""
    if figure.low is None or figure.high is None:
        return [[0.0], [0.0]]
    return [[max(0.0, figure.value - figure.low)], [max(0.0, figure.high - figure.value)]]


def _label(arm: Arm) -> str:
    """A dollar would begin matplotlib's formulas, an underscore hides a line from the legend."""
    return one_line(arm.name)[:_LABEL].replace("$", r"\$").lstrip("_") or "arm"


Draw = Callable[[Axes, Comparison, Palette], None]
FIGURES: dict[str, tuple[str, Draw]] = {
    "progress": ("Figure 3: reward of held-out queries while training", draw_progress),
    "distance": ("Reward against the distance from the start", draw_distance),
}


def drawable(comparison: Comparison) -> list[str]:
    """The pictures that have something to show."""
    points = [arm for arm in comparison.arms if _point(arm, comparison.reward_models)]
    return [name for name, there in (("progress", comparison.curves), ("distance", points)) if there]


def inline_svg(name: str, comparison: Comparison) -> str:
    """The picture as an element of the page, in the page's colours and without a legend."""
    caption, draw = FIGURES[name]
    return inline(picture(partial(_drawn, draw, comparison, SENTINELS), SENTINELS, "svg", SIZE), name, caption)


def _drawn(draw: Draw, comparison: Comparison, palette: Palette, axes: Axes, legend: bool = False) -> None:
    draw(axes, comparison, palette)
    if legend:
        legend_of(axes, palette)


def write_plots(comparison: Comparison, folder: Path) -> None:
    """Write every picture as PNG and SVG.

    Raises:
        RunError: the folder cannot be written.
    """
    refuse_inside_dataset(folder / "plots")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in drawable(comparison):
            draw = partial(_drawn, FIGURES[name][1], comparison, PAPER, legend=True)
            for kind in ("png", "svg"):
                (folder / f"{name}.{kind}").write_bytes(picture(draw, PAPER, kind, SIZE))
    except OSError as error:
        raise RunError(f"{folder}: cannot write the plots there ({error.strerror})") from error
