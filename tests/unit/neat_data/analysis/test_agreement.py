"""How far reward models agree: held to scipy, and to pairs counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import neat_data
from neat_data.analysis.measures import mean, tau_b
from neat_data.analysis.stats import compute
from neat_data.cli import app
from neat_data.report.page import page
from neat_data.report.tables import tables
from tests.support.growing import add_round, add_scores, drop

VALUE = st.sampled_from([float("nan"), 0.0, 1.0, 2.0, 3.5])


@given(st.lists(st.lists(st.tuples(VALUE, VALUE), max_size=6), max_size=6))
def test_tau_b_of_many_records_is_scipys_one_by_one(records):
    flat = [pair for record in records for pair in record]
    first, second = (np.array([pair[side] for pair in flat], dtype=np.float32) for side in (0, 1))
    taus = tau_b(first, second, np.array([len(record) for record in records], dtype=np.int64))
    for record, tau in zip(records, taus, strict=True):
        both = [pair for pair in record if not np.isnan(pair).any()]
        expected = scipy.stats.kendalltau(*zip(*both, strict=True)).statistic if len(both) > 1 else np.nan
        np.testing.assert_allclose(tau, expected, atol=1e-12)


def test_tau_b_of_a_record_of_many_responses_is_scipys() -> None:
    numbers = np.random.default_rng(0)
    first, second = (numbers.integers(0, 50, 1_200).astype(np.float32) for _ in range(2))
    first[3] = second[7] = np.nan
    there = ~np.isnan(first + second)
    expected = scipy.stats.kendalltau(first[there], second[there]).statistic
    assert tau_b(first, second, np.array([1_200]))[0] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(tau_b(first, np.full(1_200, 2.0), np.array([1_200]))[0])


def test_the_interval_of_a_mean_is_scipys_normal_one():
    values = np.random.default_rng(0).normal(size=40)
    interval = mean(values)
    error = scipy.stats.sem(values)
    assert (interval.low, interval.high) == pytest.approx(scipy.stats.norm.interval(0.95, values.mean(), error))
    assert mean(values[:0]) == type(interval)(0, None, None, None)
    assert (mean(values[:1]).low, mean(values[:1]).high) == (None, None)


@pytest.fixture
def scored(made_dataset, record_of) -> Path:
    """Five records over two shards; the own rewards, `x` and `y` below. People prefer the first response always."""
    pairs = {"a": (2.0, 1.0), "b": (1.0, 2.0), "c": (2.0, 1.0), "d": (1.0, 1.0)}
    records = [record_of(q, {f"{q}1": f, f"{q}2": s}, [(f"{q}1", f"{q}2")]) for q, (f, s) in pairs.items()]
    records.append(record_of("e", {"e1": 3.0, "e2": 2.0, "e3": 1.0}, [("e1", "e2", "e3")]))
    path = Path(made_dataset(records, shard=3).path)
    add_scores(
        path, "x", {"a1": 9, "a2": 0, "b1": 0, "b2": 9, "c1": 0, "c2": 9, "d1": 9, "d2": 0, "e1": 5, "e2": 1, "e3": 3}
    )
    add_scores(
        path,
        "y",
        {"a1": 1, "a2": 0, "b1": 0, "b2": 1, "c1": 1, "c2": 0, "d1": 1, "d2": 0, "e1": 2, "e2": 2, "e3": None},
    )
    return path


def test_models_are_compared_inside_records(scored: Path):
    agreement = compute(neat_data.open(scored)).agreement
    assert agreement.models == ("reward", "x", "y")
    # reward and x: a +1, b +1, c -1, d undefined, e (two of three pairs concordant) 1/3
    own_x, own_y, x_y = agreement.two
    assert (own_x.first, own_x.second, own_x.tau.count, own_x.undefined) == ("reward", "x", 4, 1)
    assert own_x.tau.mean == pytest.approx((1 + 1 - 1 + 1 / 3) / 4)
    # y ties what is left of e
    assert (own_y.tau.mean, own_y.tau.count, own_y.undefined) == (1.0, 3, 2)
    assert (own_y.tau.low, own_y.tau.high) == (1.0, 1.0)
    assert x_y.tau.mean == pytest.approx((1 + 1 - 1 + 1) / 4)
    assert -1 <= own_x.tau.low < own_x.tau.mean < own_x.tau.high == 1.0  # an interval ends where tau does
    assert [(one.name, one.scored, one.unscored) for one in agreement.one] == [
        ("reward", 11, 0),
        ("x", 11, 0),
        ("y", 10, 1),
    ]


def test_pairs_are_shared_or_disputed(scored: Path):
    agreement = compute(neat_data.open(scored)).agreement
    # a: all with people; b: all against; c: x against the others; d: a tie, no dispute; e1 > e2: a tie of y
    for part, count in (
        (agreement.with_people, 1),
        (agreement.against_people, 1),
        (agreement.disputed, 1),
        (agreement.tied, 2),
    ):
        assert (part.count, part.total) == (count, 5)
    assert (agreement.people_on_shared.count, agreement.people_on_shared.total) == (1, 2)
    people = {one.name: (one.people.count, one.people.total) for one in agreement.one}
    assert people == {"reward": (3, 4), "x": (3, 5), "y": (3, 4)}


def test_a_selection_is_compared_alone(scored: Path):
    agreement = compute(neat_data.open(scored), where="gap_abs = 1 and n_responses = 2").agreement
    assert agreement.two[0].tau.mean == pytest.approx(1 / 3)
    assert agreement.disputed.total == 3
    assert compute(neat_data.open(scored), where="n_responses > 9").agreement is None


def test_the_comparison_does_not_depend_on_the_ranking(scored: Path):
    by_x = compute(neat_data.open(scored), rank_by="x")
    assert by_x.agreement == compute(neat_data.open(scored)).agreement
    assert by_x.disagreement.count == 3  # b, c and e2 before e3


def test_rounds_that_were_not_scored_yet_are_compared_as_far_as_they_go(scored: Path):
    before = compute(neat_data.open(scored)).agreement
    add_round(scored, {"a": {"new": -5.0}})
    agreement = compute(neat_data.open(scored)).agreement
    assert agreement.two == before.two
    assert [one.unscored for one in agreement.one] == [0, 1, 2]
    first = next(neat_data.open(scored).records())
    drop(scored, [first.response(first.labels[0].order[0]).response_id])
    assert compute(neat_data.open(scored)).agreement.with_people.count == 0


def test_one_model_is_not_compared(made_dataset, record_of):
    stats = compute(made_dataset([record_of("a", {"a1": 1.0, "a2": 0.0}, [("a1", "a2")])]))
    assert stats.agreement is None
    assert not any("models" in table.title for table in tables(stats))


def test_the_model_behind_a_ranking_is_named(scored: Path):
    opened = neat_data.open(scored)
    named = [compute(opened, rank_by=rank_by).reward_model for rank_by in (None, "reward", "x", "min:x,y")]
    assert named == ["tiny", "tiny", "other", "min:x,y (standardised)"]
    assert compute(opened, rank_by="y").left_out == 1


def test_terminal_json_and_page_tell_the_same(scored: Path, tmp_path: Path):
    run = CliRunner().invoke(app, ["stats", str(scored), "--rank-by", "x", "--report", str(tmp_path / "r.html")])
    assert run.exit_code == 0, run.output
    for words in ("Do the reward models agree?", "reward, x", "+0.333", "Shared and disputed pairs", "ranked by"):
        assert words in run.output
        assert words in (tmp_path / "r.html").read_text()
    run = CliRunner().invoke(app, ["stats", str(scored), "--json"])
    document = json.loads(run.stdout)["agreement"]
    assert [two["tau"]["count"] for two in document["two"]] == [4, 3, 4]
    assert document["disputed"]["count"] == 1


def test_the_page_shows_pairs_in_the_ranking_it_was_made_with(scored: Path):
    opened = neat_data.open(scored)
    content = page(opened, compute(opened, rank_by="x"))
    assert "gap +9.00" in content
    assert "gap -9.00" in content


def test_what_a_model_is_called_stays_text(made_dataset, record_of):
    path = Path(made_dataset([record_of("a", {"a1": 1.0, "a2": 0.0}, [("a1", "a2")])]).path)
    add_scores(path, "x", {"a1": 0.0, "a2": 1.0}, model="<script>alert(1)</script>\x1b[31m")
    opened = neat_data.open(path)
    content = page(opened, compute(opened, rank_by="x"))
    assert "<script" not in content
    assert "\x1b" not in content
    assert "&lt;script&gt;" in content


def test_show_ranks_by_other_scores(scored: Path):
    run = CliRunner().invoke(app, ["show", str(scored), "--rank-by", "x", "--widest-gap", "1", "--json"])
    (record,) = json.loads(run.stdout)["records"]
    assert {a["reward"] for a in record["responses"]} == {9.0, 0.0}
    run = CliRunner().invoke(app, ["show", str(scored), "--rank-by", "x", "--limit", "3", "--json"])
    assert [r["responses"][0]["text"] for r in json.loads(run.stdout)["records"]] == ["a1", "b2", "c2"]
    run = CliRunner().invoke(app, ["stats", str(scored), "--rank-by", "z"])
    assert run.exit_code == 2
    assert "there are no scores 'z'" in run.output
