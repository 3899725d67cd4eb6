"""The gold setting: labels by the gold model alone, best-of-n by arithmetic, and the whole of it at toy size."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import neat_data
from neat_data.errors import InputError
from neat_data.models.weights import ModelSource, identity_of
from neat_data.record import Message, Record, Response, query_id, response_id, to_table
from neat_data.store.folder import DatasetFolder
from pipelines.gold.__main__ import lines_of, report
from pipelines.gold.best_of_n import expected, kl_of, sizes
from pipelines.gold.experiment import SETTINGS, Gold
from pipelines.gold.labels import labels_of
from pipelines.gold.picture import figure_of
from pipelines.gold.points import Scale, best_of_n, change
from pipelines.table2_small.folder import write_rows
from pipelines.table2_small.jobs import Workers

MODELS = Path(__file__).resolve().parents[3] / "data" / "models"
GOLD = MODELS / "tiny-reward"
SIZES = {"test": 2, "labels": 4, "train": 3}


def record(number: int, *rewards: float) -> Record:
    messages = (Message("user", f"What should I cook on day {number}?"),)
    query = query_id(messages)
    texts = [f"Rice\u2028with {n} onions on day {number}." for n in range(len(rewards))]
    responses = (Response(response_id(query, text), text, r, "source") for text, r in zip(texts, rewards, strict=True))
    return Record(query, messages, tuple(responses), ()).ranked()


def dataset(folder: Path, records: list[Record], reward_model: dict) -> str:
    with DatasetFolder.open(folder, {"reward_model": reward_model}, versions={}) as opened:
        opened.record(0, opened.commit(0, 0, to_table(records), [], {"source_rows": 0}))
        opened.finish(0, {"source_rows": 0, "queries_cut": 0})
    return str(folder)


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> str:
    """Six queries that gold has scored, one of which it cannot tell two answers of apart."""
    records = [record(n, 0.5, 0.1 * n, -1.0 - n) for n in range(6)] + [record(6, 1.0, 1.0)]
    identity = {"model": GOLD.name, **identity_of(ModelSource.parse(str(GOLD)))}
    return dataset(tmp_path_factory.mktemp("gold") / "made", records, identity)


def rows(file: Path) -> list[dict]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def asked(row: dict) -> str:
    return query_id(tuple(Message(**turn) for turn in row["prompt"]))


def test_what_gold_rewards_most_is_preferred_to_what_it_rewards_least(scored, tmp_path):
    write_rows(labels_of(scored, str(GOLD), SIZES), tmp_path)
    pairs = {name: rows(tmp_path / f"{name}.jsonl") for name in SIZES}
    assert {name: len(found) for name, found in pairs.items()} == SIZES
    rewards = {r.text: r.reward for one in neat_data.open(scored).records() for r in one.responses}
    for pair in [pair for found in pairs.values() for pair in found]:
        assert rewards[pair["chosen"][0]["content"]] == 0.5
        assert rewards[pair["rejected"][0]["content"]] <= -1.0
    ids = {name: [asked(pair) for pair in found] for name, found in pairs.items()}
    assert ids["test"] == sorted(record(n, 1.0).query_id for n in range(6))[:2]
    assert not set(ids["test"]) & {*ids["labels"], *ids["train"]}
    assert set(ids["train"]) < set(ids["labels"])


def test_a_dataset_that_another_model_scored_is_refused(scored, tmp_path):
    with pytest.raises(InputError, match="was scored by tiny-reward, not by --gold"):
        labels_of(scored, str(MODELS / "tiny-reward-heldout"), SIZES)
    given_rewards = dataset(tmp_path / "given", [record(0, 1.0, 2.0)], {})
    with pytest.raises(InputError, match="scored by no model"):
        labels_of(given_rewards, str(GOLD), SIZES)


def test_too_few_queries_are_counted(scored):
    with pytest.raises(InputError, match="6 queries with two different rewards, and 12 are used"):
        labels_of(scored, str(GOLD), {**SIZES, "labels": 10})


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=7, unique_by=lambda one: one[0])
)
def test_best_of_n_is_the_mean_over_all_choices(samples):
    proxy, worth = (np.array(column, dtype=float) for column in zip(*samples, strict=True))
    for n in range(1, len(samples) + 1):
        chosen = [max(choice)[1] for choice in combinations(samples, n)]
        assert expected(proxy, worth, n) == pytest.approx(np.mean(chosen))


def test_samples_that_the_proxy_likes_alike_count_alike():
    assert expected(np.array([1.0, 1.0]), np.array([0.0, 10.0]), 2) == 5.0
    assert expected(np.array([1.0, 1.0]), np.array([10.0, 0.0]), 2) == 5.0


def test_the_distance_of_the_best_of_n_is_known():
    assert (kl_of(1), sizes(16), sizes(5)) == (0.0, [1, 2, 4, 8, 16], [1, 2, 4])
    assert kl_of(4) == pytest.approx(math.log(4) - 0.75)


def samples() -> pl.DataFrame:
    """Two queries, two answers each; proxy has mean 4 and deviation 4, gold -1 and 2, apart from the sign."""
    table = {"query_id": ["a", "a", "b", "b"], "proxy": [0.0, 8.0, 2.0, 6.0], "gold": [1.0, -3.0, 0.0, -2.0]}
    return pl.DataFrame(table)


def test_rewards_are_told_in_the_start_s_deviations():
    scale = Scale.of(samples())
    assert scale.mean == {"proxy": 4.0, "gold": -1.0}
    assert scale.deviation["proxy"] == pytest.approx(2 * scale.deviation["gold"])
    one, two = best_of_n(samples(), scale)
    assert (one["n"], one["proxy"]["value"], one["gold"]["value"]) == (1, 0.0, 0.0)
    assert two["proxy"]["value"] == pytest.approx(3 / scale.deviation["proxy"])
    assert two["gold"]["value"] == pytest.approx(-two["proxy"]["value"]), "gold is the proxy turned round"
    assert "from_start" not in one
    # by hand: the better of two is 4 above the mean of query a, and 2 of b
    changed = two["from_start"]["proxy"]
    assert changed["value"] == pytest.approx(3 / scale.deviation["proxy"])
    assert changed["low"] < changed["value"] < changed["high"]


def test_a_change_is_that_of_the_same_queries():
    scale = Scale({"proxy": 1.0, "gold": 0.0}, {"proxy": 2.0, "gold": 1.0})
    names = {"proxy": "p", "gold": "g"}
    before = pl.DataFrame({"query_id": ["a", "b", "c"], "reward/p": [0.0, 2.0, None], "reward/g": [1.0, 1.0, 5.0]})
    after = pl.DataFrame({"query_id": ["c", "b", "a"], "reward/p": [9.0, 6.0, 4.0], "reward/g": [5.0, 0.0, 0.0]})
    difference = change(before, after, names, scale)
    assert difference["proxy"]["value"] == 2.0, "the query without an answer is left out"
    assert difference["gold"]["value"] == pytest.approx(-2 / 3)


def gold(out: Path, train: str, settings: dict, size: str, said: list[str]) -> Gold:
    policy, body = (str(MODELS / name) for name in ("tiny-policy", "tiny-policy-plain"))
    return Gold(train, policy, body, str(GOLD), out, settings, size, Workers(out, 2, said.append))


def test_a_checkpoint_that_was_not_evaluated_has_no_point(tmp_path):
    for step in (2, 4):
        (tmp_path / "runs" / "neat" / f"checkpoint-{step}").mkdir(parents=True)
    experiment = gold(tmp_path, "", yaml.safe_load(SETTINGS.read_text()), "tiny", [])
    assert experiment.evaluations() == {}
    last = tmp_path / "evals" / "neat" / "4"
    last.mkdir(parents=True)
    (last / "eval.json").touch()
    assert experiment.evaluations() == {"neat": {0: tmp_path / "evals" / "start", 4: last}}


def test_the_legend_covers_neither_points_nor_axes():
    reward = {"value": 0.5, "low": 0.1, "high": 0.8}
    rewards = {"proxy": reward, "gold": reward}
    arms = {"neat": {"points": [{"step": step, "kl": {"value": step}, **rewards} for step in (0, 4)]}}
    figure = figure_of({"best_of_n": [{"n": 1, "kl": 0.0, **rewards}], "arms": arms})
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["best of n", "neat"]
    assert not any(axes.get_legend() for axes in figure.axes)
    assert all(legend.get_window_extent().y1 <= axes.get_tightbbox().y0 for axes in figure.axes)


@pytest.mark.slow
def test_the_whole_of_it_at_toy_size_and_again(tmp_path):
    """Labels, proxy, an arm that starts from another, the curves; the second time nothing is run."""
    records = [record(n, 1.0, -1.0) for n in range(12)]
    train = dataset(tmp_path / "made", records, {"model": GOLD.name, **identity_of(ModelSource.parse(str(GOLD)))})
    settings = yaml.safe_load(SETTINGS.read_text())
    settings["sizes"]["toy"] = {"test": 3, "labels": 6, "train": 8, "best_of": 2}
    settings["fit"] |= {"records_per_step": 4, "save_steps": 2, "max_response": 16, "max_length": 64}
    settings["arms"] = {"rrhf": settings["arms"]["rrhf"]}
    said: list[str] = []
    experiment = gold(tmp_path / "out", train, settings, "toy", said)
    experiment.run()
    report(experiment)
    document = json.loads((tmp_path / "out" / "gold.json").read_text())
    start, end = document["arms"]["rrhf"]["points"]
    assert (start["step"], end["step"]) == (0, 2)
    assert abs(start["kl"]["value"]) < 1e-6
    assert end["kl"]["value"] > 1e-3
    assert "from_start" not in start
    moved = end["from_start"]["proxy"]
    assert moved["low"] <= moved["value"] <= moved["high"]
    assert [one["n"] for one in document["best_of_n"]] == [1, 2]
    assert document["proxy"]["agrees_with_gold"]["pairs"] == 3
    done = [line.split(":")[0] for line in said]
    assert (done[:2], sorted(done[2:])) == (["proxy", "train"], ["eval-rrhf-2", "eval-start", "rrhf", "test"])
    assert lines_of(document)[-1].startswith("rrhf, step 2")
    assert (tmp_path / "out" / "gold.png").stat().st_size > 10_000
    said.clear()
    experiment.run()
    assert said == []
