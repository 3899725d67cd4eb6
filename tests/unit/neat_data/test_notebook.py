"""What a notebook shows of results of neat_data."""

from __future__ import annotations

from pathlib import Path

from neat_data.analysis.stats import compute
from neat_data.notebook import figure, html_of_facts
from neat_data.scoring.score import ScoreSummary


def test_no_text_becomes_markup():
    shown = html_of_facts("<b>m</b>", {"<i>": "<script>alert(1)</script>"})
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def test_a_figure_has_its_interval_where_it_is_known():
    assert (figure(1.25), figure(1.25, 1.0, 1.5), figure(None)) == ("1.250", "1.250 (1.000 to 1.500)", "–")


def test_stats_show_how_far_the_pairs_are_apart(record_of, made_dataset):
    records = [
        record_of("one", {"a": 3.0, "b": 0.0}, [("a", "b")]),
        record_of("two", {"a": 0.0, "b": 0.5}, [("a", "b")]),
    ]
    shown = compute(made_dataset(records))._repr_html_()
    assert "<td>4</td>" in shown  # responses
    assert "gap beyond 1</th><td>0.500 (" in shown
    assert "against people</th><td>0.500 (" in shown


def test_a_score_shows_its_counts_and_where_they_lie():
    shown = ScoreSummary(Path("<x>"), False, {"source_rows": 1200, "rejected": {"not_json": 1}})._repr_html_()
    assert "Scored into &lt;x&gt;" in shown
    assert "source rows</th><td>1,200</td>" in shown
