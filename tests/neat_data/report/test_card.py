"""The dataset card: figures, escaping, and no trace of where or when it was made."""

from __future__ import annotations

import shutil

import neat_data
from neat_data.report.card import card, plain
from neat_data.stats import compute


def test_the_card_tells_the_figures_and_what_was_rejected(record_of, made_dataset):
    records = [
        record_of("one", {"a": 3.0, "b": 1.0}, [("a", "b")]),
        record_of("two", {"a": 0.0, "b": 0.5}, [("a", "b")]),
    ]
    dataset = made_dataset(records, rejected=["bad_unicode"])
    text = card(dataset, compute(dataset))
    assert "2 queries with 4 responses and their rewards. Made from 3 source rows, 1 of them rejected." in text
    assert r"| \|gap\| \> 1 | 50.0 % | 9.5 to 90.5 | 1 |" in text
    assert r"| bad\_unicode | 1 |" in text
    assert "| 0 | source | – | 2 | 4 | 1.12 | complete |" in text
    assert "Content warning" in text
    assert "- model: tiny" in text


def test_names_from_the_dataset_are_escaped(record_of, made_dataset):
    hostile = "](http://x)<script>|`*_\n# big\x1b www.x.org"
    record = record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")], origin=hostile)
    dataset = made_dataset([record], rejected=[hostile], model=hostile)
    text = card(dataset, compute(dataset))
    assert "<script>" not in text
    assert "](http" not in text.replace(r"\]", "")
    assert "http://" not in text
    assert "\n# big" not in text
    assert "\x1b" not in text
    assert text.count(plain(hostile)) == 3


def test_the_card_is_the_same_wherever_the_dataset_lies(record_of, made_dataset, tmp_path):
    dataset = made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])])
    text = card(dataset, compute(dataset))
    moved = tmp_path / "else" / "where"
    shutil.copytree(tmp_path / "made", moved)
    again = neat_data.open(str(moved))
    assert card(again, compute(again)) == text
    assert str(tmp_path) not in text


def test_a_dataset_of_nothing_has_a_card(made_dataset):
    dataset = made_dataset([])
    assert "No source row was rejected." in card(dataset, compute(dataset))
