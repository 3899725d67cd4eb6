"""Pictures: files that open, the same bytes each time, and inline ones that follow the page's colours."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from neat_data.analysis.stats import compute
from neat_data.errors import RunError
from neat_data.report.plots import FIGURES, PAPER, SENTINELS, VARIABLES, inline_svg, write_plots


@pytest.fixture
def stats(record_of, made_dataset):
    orders = [("a", "bb")]
    records = [record_of(str(i), {"a": i / 10 - 2, "bb": 0.0}, orders, origin="$x_1$ <b>") for i in range(60)]
    return compute(made_dataset(records))


@pytest.mark.slow
def test_every_picture_is_written_as_png_and_svg_and_again_the_same(stats, tmp_path):
    write_plots(None, stats, tmp_path / "one")
    write_plots(None, stats, tmp_path / "two")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        f"{n}.{kind}" for n in FIGURES for kind in ("png", "svg")
    }
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        if path.suffix == ".png":
            assert len(np.unique(np.asarray(Image.open(path)))) > 10  # something was drawn
        else:
            ET.fromstring(path.read_text())


@pytest.mark.parametrize("name", FIGURES)
def test_an_inline_picture_takes_its_colours_from_the_page(stats, name):
    svg = inline_svg(name, stats)
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    assert not any(colour in svg for colour in VARIABLES)
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", svg))
    assert {"ink", "frame"} <= used
    fixed = set(re.findall(r"#[0-9a-f]{6}\b", svg)) - {"#ffffff", "#000000"}
    assert not fixed, "a colour that would not follow light and dark"
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert all(identifier.startswith(f"{name}-") for identifier in ids)
    assert {link[1:] for link in re.findall(r'href="([^"]+)"', svg)} <= set(ids)
    assert len(SENTINELS.data) == len(PAPER.data) == 8


def test_thresholds_are_marked_where_the_picture_reaches(stats):
    # gaps run from -2 to 3.9: the marks at 1 and -1 are inside, 5 is drawn too since it is not far beyond
    svg = inline_svg("gap", stats)
    assert re.search(r">−1</text>", svg)
    assert re.search(r">5</text>", svg)


def test_names_are_not_formulas_nor_markup(stats):
    svg = inline_svg("origin", stats)
    assert "$x_1$ &lt;b&gt; (120)" in svg


@pytest.mark.parametrize("records", [[], [("one", {"a": 1.0}, [])], [("one", {"a": 1.0, "b": 1.0}, [("a", "b")])]])
def test_pictures_of_next_to_nothing_are_drawn_without_a_warning(record_of, made_dataset, records):
    stats = compute(made_dataset([record_of(*record) for record in records]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in FIGURES:
            ET.fromstring(inline_svg(name, stats))


def test_a_folder_that_cannot_be_written_is_said(stats, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the plots"):
        write_plots(None, stats, tmp_path / "file")
