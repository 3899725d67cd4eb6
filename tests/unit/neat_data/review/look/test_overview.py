"""What the first page draws: bars whose links list as many records as they say."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest

from neat_data.review.look.index import build
from neat_data.review.look.listing import Listing, RecordLists
from neat_data.review.look.overview import bars, quarters, round_edges


def test_every_bar_and_cell_lists_the_records_that_it_counts(made_dataset: Any, record_of: Any):
    rng = np.random.default_rng(0)
    gaps = [*rng.normal(0, 1.3, 60).round(3), 0.0, 0.5, -0.5, 40.0, -40.0]
    records = [record_of(f"q{n}", {"good": gap, "bad": 0.0}, [("good", "bad")]) for n, gap in enumerate(gaps)]
    opened = made_dataset([*records, record_of("none", {"alone": 1.0})], shard=20)
    index = build(opened)
    lists = RecordLists(opened, index)
    drawn, ticks = bars(index.frame["gap"].to_numpy())
    for bar in drawn:
        assert len(lists.of(Listing.parse(dict(parse_qsl(bar.query))))) == bar.records, bar
    assert sum(bar.records for bar in drawn) == len(gaps)
    assert [bar.side for bar in drawn] == sorted(bar.side for bar in drawn)
    assert ("0", 50.0) in [(tick.text, tick.place) for tick in ticks]
    for _, cells in quarters(index.cells):
        for cell in cells:
            rows = lists.of(Listing.parse(dict(parse_qsl(cell.query))))
            assert min(1, cell.responses) <= len(rows) <= cell.responses


@pytest.mark.parametrize("scale", [1e-4, 0.37, 1.0, 2600.0])
def test_edges_are_round_lie_around_0_and_reach_99_of_100_values(scale: float):
    values = np.sort(np.random.default_rng(1).normal(0, scale, 5_000))
    edges = round_edges(values)
    assert 15 <= len(edges) - 1 <= 40
    assert 0.0 in edges
    assert np.array_equal(edges, -edges[::-1])
    assert np.array_equal([float(f"{edge:g}") for edge in edges], edges)
    assert np.mean((values >= edges[0]) & (values <= edges[-1])) >= 0.985


def test_gaps_that_are_all_0_and_none_at_all_are_drawn_as_well():
    assert sum(bar.records for bar in bars(np.zeros(3))[0]) == 3
    assert bars(np.array([np.nan])) == ([], [])
