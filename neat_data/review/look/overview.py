"""The first page: what `stats` knows of a dataset, and the two pictures that lead to lists.

The histogram counts records by the gap of their `labels.pair`, since a list is one of records; the tables and the other
pictures are those of `stats`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from neat_data.analysis.measures import counts_between
from neat_data.analysis.result import Stats
from neat_data.report.plots import FIGURES, inline_svg
from neat_data.report.tables import interval, level, number, percent
from neat_data.review.look.index import POLARITIES, QUARTILES, Cells, Index
from neat_data.review.look.listing import Listing

BARS = 40  # at most
EDGES_A_TICK = 5
BASE, HEIGHT = 89, 86  # where bars stand and how high they may be, in per cent
PICTURES = ("cumulative", "origin", "length")
_STYLE_ELEMENT = re.compile(r"<style.*?</style>", re.DOTALL)
_STYLE = re.compile(r'style="([^"]*)"')
_FONT = re.compile(r"font: (?:\w+ )*?([\d.]+px) ([^;]+)")


@dataclass(frozen=True)
class Bar:
    """Records between two gaps.

    Attributes:
        side: `for` where the reward sides with people or ties, else `against`.
        left, top, width, height: of its picture, in per cent of the histogram's.
        query: of the address that lists them.
        name: for who cannot see the picture.
    """

    records: int
    side: str
    left: float
    top: float
    width: float
    height: float
    query: str
    name: str


@dataclass(frozen=True)
class Tick:
    """A number below the histogram, and where in per cent."""

    text: str
    place: float


@dataclass(frozen=True)
class Cell:
    """Responses of one polarity whose reward is in one quarter; `share` of the row's, from 0 to 1."""

    responses: int
    share: float
    query: str


def bars(gap: np.ndarray) -> tuple[list[Bar], list[Tick]]:
    """The histogram of the gap, in bins of a round width; the outermost ones hold what lies beyond.

    Args:
        gap: float64, one a record; NaN where people compared nothing.
    """
    known = np.sort(gap[~np.isnan(gap)])
    if not len(known):
        return [], []
    edges = round_edges(known)
    counts = counts_between(known, edges)
    made = [_bar(edges, place, int(count), int(counts.max())) for place, count in enumerate(counts)]
    half = len(counts) // 2
    ticks = [(place, edge) for place, edge in enumerate(edges) if (place - half) % EDGES_A_TICK == 0]
    return made, [Tick(f"{edge:g}", round(100 * place / len(counts), 2)) for place, edge in ticks]


def round_edges(ordered: np.ndarray) -> np.ndarray:
    """Edges around 0 at multiples of 1, 2 or 5 times a power of ten, as far as 99 % of the values reach."""
    reach = float(np.quantile(np.abs(ordered), 0.99)) or 1.0
    step = 2 * reach / BARS
    power = 10 ** math.floor(math.log10(step))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)
    half = math.ceil(reach / step * 0.999)
    return np.round(np.arange(-half, half + 1) * step, 12)


def _bar(edges: np.ndarray, place: int, count: int, highest: int) -> Bar:
    width, height = 100 / (len(edges) - 1), HEIGHT * count / highest
    where, between = _between(edges, place)
    return Bar(
        records=count,
        side="against" if edges[place + 1] <= 0 else "for",
        left=round(place * width + 0.05 * width, 2),
        top=round(BASE - height, 2),
        width=round(0.9 * width, 2),
        height=round(height, 2),
        query=Listing(where=where).query(),
        name=f"{count:,} {'record' if count == 1 else 'records'}, gap {between}",
    )


def _between(edges: np.ndarray, place: int) -> tuple[str, str]:
    """The records of a bin, as an expression and in words."""
    low, high = f"{edges[place]:g}", f"{edges[place + 1]:g}"
    if place == 0:
        return f"gap < {high}", f"below {high}"
    if place == len(edges) - 2:
        return f"gap >= {low}", f"{low} and more"
    return f"gap >= {low} AND gap < {high}", f"from {low} to {high}"


def quarters(cells: Cells) -> list[tuple[str, list[Cell]]]:
    """Each polarity that has a response with a reward, and its four cells."""
    rows = []
    for name, counts in zip(POLARITIES, cells.counts.tolist(), strict=True):
        if total := sum(counts):
            row = [Cell(n, n / total, Listing(polarity=name, quarter=q + 1).query()) for q, n in enumerate(counts)]
            rows.append((name, row))
    return rows


def quarter_names(edges: tuple[float, ...]) -> list[str]:
    """What the four quarters are called: the rewards that bound them."""
    if not edges:
        return []
    low, middle, high = (number(edge) for edge in edges)
    return [f"below {low}", f"{low} to {middle}", f"{middle} to {high}", f"from {high}"][:QUARTILES]


def heads(stats: Stats, index: Index) -> list[tuple[str, str, str]]:
    """The headline figures: a figure, what it is, and its interval or the number that it is out of."""
    counts = stats.counts
    bars = [
        (f"{len(index):,}", "records", f"{counts.responses:,} responses"),
        (f"{sum(counts.rejected.values()):,}", "source rows rejected", ""),
    ]
    shares = [(f"of pairs: |gap| > {level(t.threshold)}", t.absolute) for t in stats.thresholds]
    shares.append(("of pairs: the reward is against people", stats.disagreement))
    if counts.pairs:
        bars += [(percent(share.share), name, f"{interval(share)} %") for name, share in shares]
    return bars


def pictures(stats: Stats) -> list[tuple[str, Markup]]:
    """The captions and pictures of `stats`, as SVG elements that a page without inline styles may hold."""
    return [(FIGURES[name][0], Markup(without_styles(inline_svg(name, stats)))) for name in PICTURES]


def without_styles(svg: str) -> str:
    """An SVG of matplotlib's with attributes in the place of styles, which a strict content policy would not apply.

    >>> without_styles('<path style="fill: none; stroke-width: 2"/>')
    '<path fill="none" stroke-width="2"/>'
    """
    return _STYLE.sub(lambda match: _attributes(match[1]), _STYLE_ELEMENT.sub("", svg))


def _attributes(style: str) -> str:
    style = _FONT.sub(r"font-size: \1; font-family: \2", style)
    parts = (part.partition(":") for part in style.split(";") if part.strip())
    return " ".join(f'{name.strip()}="{value.strip()}"' for name, _, value in parts)
