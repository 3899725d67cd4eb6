"""Ranking by the scores of other models: the same from every reader, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neat_data.errors import InputError
from neat_data.record import Record
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.scores.ranking import RankBy
from tests.support.growing import add_round, add_scores, drop, texts


@pytest.fixture
def scored(made_dataset, record_of) -> Path:
    """Two shards, three queries; `other` turns the first one round and ties the second, `sharp` refuses c2."""
    records = [
        record_of("a", {"a1": 3.0, "a2": 1.0}, [("a1", "a2")]),
        record_of("b", {"b1": 2.0, "b2": 0.0}, [("b1", "b2")]),
        record_of("c", {"c1": 1.0, "c2": 0.0, "c3": -1.0}, [("c2", "c3"), ("c1", "c2")]),
    ]
    path = Path(made_dataset(records, shard=2).path)
    add_scores(path, "other", {"a1": -10, "a2": 10, "b1": 5, "b2": 5, "c1": 0, "c2": 1, "c3": 2})
    add_scores(path, "sharp", {"a1": 0, "a2": 1, "b1": 0, "b2": 1, "c1": 0, "c2": None, "c3": 1})
    return path


def test_one_models_scores_take_the_place_of_the_rewards(scored: Path):
    opened = PreferenceDataset.open(scored)
    assert opened.models == ("reward", "other", "sharp")
    ranked = {r.messages[0].content: [(a.text, a.reward) for a in r.responses] for r in opened.records(rank_by="other")}
    assert ranked == {
        "a": [("a2", 10.0), ("a1", -10.0)],
        "b": [("b1", 5.0), ("b2", 5.0)],  # a tie keeps the dataset's own order
        "c": [("c3", 2.0), ("c2", 1.0), ("c1", 0.0)],
    }
    assert list(opened.records(rank_by="reward")) == list(opened.records())


def test_mean_and_min_stand_on_one_scale(scored: Path):
    own, other = np.array([3, 1, 2, 0, 1, 0, -1.0]), np.array([-10, 10, 5, 5, 0, 1, 2.0])
    standard = [(v - v.mean()) / v.std() for v in (own, other)]
    opened = PreferenceDataset.open(scored)
    for rank_by, together in (
        ("mean:reward,other", sum(standard) / 2),
        ("min:other,reward", np.minimum(*standard)),
        ("mean:other", standard[1]),
    ):
        rewards = {a.text: a.reward for r in opened.records(rank_by=rank_by) for a in r.responses}
        names = ["a1", "a2", "b1", "b2", "c1", "c2", "c3"]
        assert [rewards[name] for name in names] == together.astype(np.float32).tolist()
        for record in opened.records(rank_by=rank_by):
            assert record == record.ranked()
    assert texts(opened, rank_by="mean:reward,other")["c"] == ["c1", "c2", "c3"]


def test_a_refused_response_leaves_the_record_and_the_labels(scored: Path):
    opened = PreferenceDataset.open(scored)
    *_, last = opened.records(rank_by="sharp")
    assert [response.text for response in last.responses] == ["c3", "c1"]
    assert last.labels == ()  # both spoke of c2
    assert texts(opened, rank_by="mean")["c"] == ["c3", "c1"]  # standardised sums -0.46 and -1.21
    assert (opened.left_out("sharp"), opened.left_out("mean"), opened.left_out("other"), opened.left_out(None)) == (
        1,
        1,
        0,
        0,
    )


@pytest.mark.parametrize("rank_by", [None, "other", "sharp", "mean", "min:reward,other"])
@pytest.mark.parametrize("grown", [False, True])
def test_every_reader_gives_the_same_ranking(
    scored: Path, grown: bool, rank_by: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    if grown:
        add_round(scored, {"a": {"new": 9.0, "newer": -9.0}, "c": {"new": 0.0}})
        for name in ("other", "sharp"):
            model = {"new": 1.0, "newer": 0.5}
            add_scores(scored, name, model)
        first = next(PreferenceDataset.open(scored).records())
        drop(scored, [first.response(first.labels[0].order[0]).response_id])
    opened = PreferenceDataset.open(scored)
    expected = list(opened.records(rank_by=rank_by))
    assert all(record == record.ranked() for record in expected)
    assert [Record.from_dict(row) for row in opened.scan_records(rank_by=rank_by).collect().to_dicts()] == expected
    assert [Record.from_dict(row) for row in opened.to_hf(rank_by=rank_by)] == expected
    flat = opened.scan(rank_by=rank_by).select("rank", "text", "reward").collect().rows()
    assert flat == [(n, a.text, a.reward) for record in expected for n, a in enumerate(record.responses)]
    with_scores = opened.scan_records(rank_by=rank_by, scores=True).collect()
    assert with_scores.drop("scores").to_dicts() == [record.to_dict() for record in expected]
    own = {a.response_id: a.reward for record in opened.records(dropped=True) for a in record.responses}
    for row in with_scores.to_dicts():
        assert row["scores"]["reward"] == [own[a["response_id"]] for a in row["responses"]]


def test_responses_that_people_dropped_do_not_count_in_the_scale(scored: Path, made_dataset, record_of):
    first = next(PreferenceDataset.open(scored).records())
    drop(scored, [response.response_id for response in first.responses])
    own = np.array([2, 0, 1, 0, -1.0])
    rewards = [a.reward for r in PreferenceDataset.open(scored).records(rank_by="mean:reward") for a in r.responses]
    assert rewards == ((own - own.mean()) / own.std()).astype(np.float32).tolist()


def test_scores_that_do_not_cover_every_round_say_rescore_again(scored: Path):
    add_round(scored, {"c": {"new": 0.0}})
    opened = PreferenceDataset.open(scored)
    for rank_by in ("other", "mean", "min:other"):
        with pytest.raises(InputError, match=r"shard 0 of round 1 was not scored yet.\nRescore again"):
            list(opened.records(rank_by=rank_by))
    assert texts(opened)["c"] == ["c1", "c2", "new", "c3"]  # its own rewards go on
    add_scores(scored, "other", {"new": 7.0})
    assert texts(PreferenceDataset.open(scored), rank_by="other")["c"] == ["new", "c3", "c2", "c1"]


@pytest.mark.parametrize("text", ["nobody", "mean:other,nobody", "mean:", "min:other,other", "other:sharp", ""])
def test_a_ranking_that_cannot_be_is_refused(text: str):
    with pytest.raises(InputError, match=r"rank_by .*: "):
        RankBy.parse(text, ("other", "sharp"))


def test_equal_scores_everywhere_are_all_ties(made_dataset, record_of):
    path = Path(made_dataset([record_of("a", {"x": 1.0, "y": 0.0})]).path)
    add_scores(path, "flat", {"x": 4.0, "y": 4.0})
    (record,) = PreferenceDataset.open(path).records(rank_by="mean:flat")
    assert [(a.text, a.reward) for a in record.responses] == [("x", 0.0), ("y", 0.0)]


def test_damaged_scores_are_named(scored: Path):
    one, two = scored / "scores" / "other" / "00000.arrow", scored / "scores" / "other" / "00001.arrow"
    manifest = scored / "scores" / "other" / "scores.json"
    whole = manifest.read_text()
    sizes = [f'"bytes": {path.stat().st_size}' for path in (one, two)]
    one.write_bytes(two.read_bytes())
    manifest.write_text(whole.replace(*sizes))
    with pytest.raises(InputError, match=r"other/00000\.arrow: is about other responses"):
        list(PreferenceDataset.open(scored).records(rank_by="other"))
    manifest.write_text(whole)
    with pytest.raises(InputError, match=r"other/00000\.arrow: damaged: 1,\d{3} bytes instead of"):
        list(PreferenceDataset.open(scored).records(rank_by="other"))
    one.write_bytes(b"no arrow file".ljust(int(sizes[0].split()[1])))
    with pytest.raises(InputError, match=r"other/00000\.arrow: cannot be read"):
        list(PreferenceDataset.open(scored).records(rank_by="other"))
    (scored / "scores" / "other" / "scores.json").write_text("{")
    with pytest.raises(InputError, match=r"scores/other/scores\.json: damaged"):
        list(PreferenceDataset.open(scored).records(rank_by="other"))
