"""Which pairs are kept: each strategy on numbers worked out by hand, and what cannot be kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import neat_data
from neat_data.errors import InputError
from neat_data.formats.export import ExportRequest, export
from neat_data.formats.strategies import STRATEGIES, Candidates, Keep, pairs_of
from tests.support.growing import add_scores

NAN = float("nan")
IDS = ("a", "b", "c", "d", "e")


def kept(text: str, *gaps: tuple[float, ...]) -> set[str]:
    return set(Keep.parse(text).kept(Candidates(IDS, np.array(gaps))))


def test_gaps_large_small_and_in_the_middle():
    gaps = (3.0, -0.5, 1.0, 0.2, NAN)
    assert kept("large-gap:2", gaps) == {"a", "c"}
    assert kept("small-gap:2", gaps) == {"d", "b"}  # nearest to 0, whichever way
    assert kept("middle-gap:2", gaps) == {"d", "c"}  # the median is 0.6
    assert kept("large-gap:0.4", gaps) == {"a", "c"}  # a share of all five


def test_models_that_order_a_pair_alike_and_those_that_do_not():
    gaps = ((1.0, -1.0, 1.0, 0.0, 1.0), (2.0, -0.1, -1.0, 1.0, NAN))
    assert kept("agree:2", *gaps) == {"a", "b"}
    assert kept("disagree:2", *gaps) == {"c", "d"}  # a tie is no agreement, and what one model did not score is neither
    assert len(kept("agree:1", *gaps)) == 1


def test_random_pairs_are_any_and_the_same_each_time():
    candidates = Candidates(tuple(f"q{n}" for n in range(1000)), np.zeros((1, 1000)))
    first = Keep.parse("random:0.5").kept(candidates)
    assert len(first) == 500
    assert first == Keep.parse("random:500").kept(candidates)
    assert 200 < sum(f"q{n}" in first for n in range(500)) < 300


@pytest.mark.parametrize("text", ["large-gap", "large:2", "large-gap:0", "large-gap:1.5", "small-gap@:2", "agree@x:2"])
def test_what_says_no_strategy_is_refused(text):
    with pytest.raises(InputError, match=r"say large-gap|no scores of one model"):
        Keep.parse(text)


def test_more_than_there_are_is_refused():
    with pytest.raises(InputError, match="of 5 pairs large-gap has 4 to keep 5 of"):
        kept("large-gap:5", (3.0, -0.5, 1.0, 0.2, NAN))


def test_every_strategy_says_where_it_comes_from():
    for name, strategy in STRATEGIES.items():
        assert "arXiv" in (strategy.__doc__ or "") or name in ("random", "disagree")


@pytest.fixture
def four(record_of, made_dataset):
    return made_dataset(
        [
            record_of("one", {"a": 3.0, "b": 1.0}, [("b", "a")]),
            record_of("two", {"c": 1.5, "d": 1.0}, [("c", "d")]),
            record_of("three", {"e": 9.0, "f": 1.0, "g": 1.0}),
            record_of("four", {"h": 1.0}),
        ]
    )


def exported(dataset, path, **options) -> list[str]:
    """Whose pairs there are, by the query's text."""
    export(dataset, ExportRequest("trl-dpo", path, overwrite=True, **options))
    return list(dict.fromkeys(json.loads(line)["prompt"][0]["content"] for line in path.read_text().splitlines()))


def test_export_keeps_records_by_the_pair_that_they_would_give(four, tmp_path):
    out = tmp_path / "a.jsonl"
    assert exported(four, out, keep_pairs="large-gap:2") == ["one", "three"]
    assert exported(four, out, keep_pairs="small-gap:1") == ["two"]
    assert exported(four, out, keep_pairs="large-gap:1", pairs="labels") == ["two"]  # of "one" people chose the lower
    assert exported(four, out, keep_pairs="large-gap:1", where="reward_best < 5", pairs="all") == ["one"]
    assert exported(four, out, keep_pairs="random:1", limit=1) == ["one"]
    assert len(pairs_of(four.records())) == 3


def test_gaps_by_other_scores_and_what_two_models_agree_on(four, tmp_path):
    out = tmp_path / "a.jsonl"
    with pytest.raises(InputError, match="agree needs two models"):
        exported(four, out, keep_pairs="agree:1")
    add_scores(
        Path(four.path), "other", {"a": 5.0, "b": 1.0, "c": 0.0, "d": 0.5, "e": 4.0, "f": 3.0, "g": 2.0, "h": 0.0}
    )
    scored = neat_data.open(four.path)
    assert exported(scored, out, keep_pairs="disagree:1") == ["two"]
    assert exported(scored, out, keep_pairs="agree:2") == ["one", "three"]
    assert exported(scored, out, keep_pairs="large-gap@other:1") == ["one"]
    assert exported(scored, out, keep_pairs="large-gap:1") == ["three"]
    with pytest.raises(InputError, match="nosuch"):
        exported(scored, out, keep_pairs="small-gap@nosuch:1")
