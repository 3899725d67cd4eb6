"""Scores of further models on the disk: begun, taken up, checked, forgotten with their round."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from neat_data.errors import InputError
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder
from neat_data.store.scores import folder as folders
from neat_data.store.scores.folder import ScoresFolder, commit_scores, drop_round, score_table
from neat_data.store.scores.format import Scores, check_name, faults, unfinished
from neat_data.store.shard import read_shard, shard_metadata, write_shard
from tests.support.growing import add_round, add_scores

REWARDS = {"a1": 1.0, "a2": 2.0, "b1": None, "b2": 4.0, "new": 0.5, "newer": 0.25}


@pytest.fixture
def scored(made_dataset, record_of) -> Path:
    """Two shards and a round 1 for the second, scored as `m`."""
    records = [record_of(q, {f"{q}1": 1.0, f"{q}2": 0.0}, [(f"{q}1", f"{q}2")]) for q in ("a", "b")]
    path = Path(made_dataset(records, shard=1).path)
    add_round(path, {"b": {"new": 3.0}})
    add_scores(path, "m", REWARDS)
    return path


def test_scores_that_wait_to_be_entered_are_adopted_after_a_kill(scored: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folders, "WAITING_SHARE", 1)  # one may wait beside one that is entered
    before = (scored / "scores" / "m" / "scores.json").read_bytes()
    shards = PreferenceDataset.open(scored).scores("m").shards
    with DatasetFolder.claim(scored) as folder:
        _changed(scored, lambda content: content.update(shards=content["shards"][:2]))
        scores = ScoresFolder(scored, "m", folder.manifest)
        scores.record(shards[2])
        scores.record(shards[3])
        assert len(PreferenceDataset.open(scored).scores("m").shards) == 2
        taken_up = ScoresFolder(scored, "m", folder.manifest)
        taken_up.begin(taken_up.scores.settings, versions=taken_up.scores.versions)
    assert (scored / "scores" / "m" / "scores.json").read_bytes() == before
    assert taken_up.scores.shards == shards


def _changed(path: Path, change) -> None:
    file = path / "scores" / "m" / "scores.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def _rewritten(path: Path, name: str, table: pa.Table) -> None:
    """A file with other rows, its hash entered as if it had been written so."""
    file = path / "scores" / "m" / name
    entry = write_shard(file, table, shard_metadata(file))

    def enter(content: dict) -> None:
        for shard in content["shards"]:
            if shard["entry"]["name"].endswith(f"m/{name}"):
                shard["entry"] |= {"bytes": entry.bytes, "sha256": entry.sha256}

    _changed(path, enter)


def test_whole_scores_have_no_faults_and_say_what_was_refused(scored: Path):
    assert (list(faults(scored)), list(unfinished(scored))) == ([], [])
    scores = PreferenceDataset.open(scored).scores("m")
    assert scores.refused == {"response_too_long": 1}
    names = [shard.entry.name for shard in scores.shards]
    assert names == [
        f"scores/m/{n}" for n in ("00000.arrow", "00001.arrow", "round-0001/00000.arrow", "round-0001/00001.arrow")
    ]
    assert read_shard(scored / names[1]).to_pydict() == {
        "response_id": read_shard(scored / names[1])["response_id"].to_pylist(),
        "reward": [None, 4.0],
        "refused": ["response_too_long", None],
    }


def test_a_round_that_was_not_scored_is_unfinished_but_no_fault(scored: Path):
    add_round(scored, {"a": {"newer": 3.0}}, seed=1)
    assert list(faults(scored)) == []
    assert list(unfinished(scored)) == ["scores/m: 2 shards are not scored yet (rescore again)"]


def test_damage_is_found(scored: Path):
    base, later = scored / "scores/m/00000.arrow", scored / "scores/m/round-0001/00001.arrow"
    later.write_bytes(later.read_bytes()[:-1] + b"x")
    base.unlink()
    (scored / "scores/m/00007.arrow").write_bytes(b"")
    assert list(faults(scored)) == [
        "scores/m/00000.arrow: missing (the same command again makes it anew)",
        "scores/m/round-0001/00001.arrow: damaged: its sha256 is not the manifest's (remove it: the same command again "
        "makes it anew)",
        "scores/m/00007.arrow: not in scores.json (the same command again adopts it)",
    ]


def test_a_lost_or_damaged_manifest_is_found(scored: Path):
    file = scored / "scores" / "m" / "scores.json"
    content = file.read_text()
    file.unlink()
    assert list(faults(scored)) == ["scores/m/scores.json: missing (the same `neat-data rescore` again makes it anew)"]
    add_scores(scored, "m", REWARDS)
    assert file.read_text() == content  # every file was adopted
    file.write_text(content.replace('"name": "scores/m/00000.arrow"', '"name": "../elsewhere/00000.arrow"'))
    (fault,) = faults(scored)
    assert fault.startswith("scores/m/scores.json: damaged (ValueError: '../elsewhere/00000.arrow'")
    file.write_text(content.replace('"model": "other"', '"model": "another"'))
    assert list(faults(scored)) == ["scores/m/scores.json: the fingerprint does not match the settings"]
    file.write_text(content.replace('"format_version": 1', '"format_version": 2'))
    assert "format version 2 is unknown" in next(faults(scored))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.slice(1), "does not hold exactly the responses of its shard, in its order"),
        (lambda t: t.take([1, 0]), "does not hold exactly the responses of its shard, in its order"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "does not hold exactly the responses of its shard"),
        (lambda t: t.set_column(1, "reward", pa.array([1.0, np.inf], pa.float32())), "a score is not a finite number"),
        (lambda t: t.set_column(1, "reward", pa.array([1.0, None], pa.float32())), "missing without a reason"),
        (lambda t: t.set_column(2, "refused", pa.array([None, "why"])), "missing without a reason, or has one"),
        (lambda t: t.drop_columns("refused"), "its columns are not those of scores"),
    ],
)
def test_what_breaks_a_promise_inside_a_file_is_found(scored: Path, change, fault: str):
    _rewritten(scored, "00000.arrow", change(read_shard(scored / "scores/m/00000.arrow")))
    (message,) = faults(scored)
    assert message.startswith("scores/m/00000.arrow: ")
    assert fault in message


def test_a_round_made_again_makes_its_scores_stale(scored: Path):
    with DatasetFolder.claim(scored) as folder:
        folder.drop_round(1)
    add_round(scored, {"b": {"newer": 3.0}}, seed=5)
    if "round-0001" in (scored / "scores/m/scores.json").read_text():  # whoever drops a round may drop its scores
        assert any("belongs to no shard of the dataset" in fault for fault in faults(scored))
    add_scores(scored, "m", REWARDS)
    assert list(faults(scored)) == []
    records = PreferenceDataset.open(scored).records(rank_by="m")
    assert {a.text: a.reward for r in records for a in r.responses}["newer"] == 0.25


def test_the_scores_of_a_round_go_with_it(scored: Path):
    with DatasetFolder.claim(scored) as folder:
        folder.drop_round(1)
        drop_round(scored, 1)
        drop_round(scored, 1)  # a kill may have come between
    assert [shard.round for shard in PreferenceDataset.open(scored).scores("m").shards] == [0, 0]
    assert (list(faults(scored)), list(unfinished(scored))) == ([], [])
    assert not (scored / "scores/m/round-0001").exists()


def test_other_settings_under_the_same_name_are_refused(scored: Path):
    with pytest.raises(InputError, match=r'reward_model\.model: "other" -> "third".*\nChoose another name'):
        add_scores(scored, "m", REWARDS, model="third")
    (scored / "scores" / "m" / "scores.json").unlink()
    with pytest.raises(InputError, match=r'reward_model\.model: "other" -> "third"'):
        add_scores(scored, "m", REWARDS, model="third")


def test_a_file_that_no_manifest_knows_is_adopted_where_it_fits(scored: Path, tmp_path: Path):
    undisturbed = shutil.copytree(scored, tmp_path / "undisturbed")
    _changed(scored, lambda content: content["shards"].pop(0))
    (scored / "scores/m/00001.arrow").write_bytes(b"cut short")
    inode = (scored / "scores/m/00000.arrow").stat().st_ino
    add_scores(scored, "m", REWARDS)
    assert (scored / "scores/m/00000.arrow").stat().st_ino == inode  # not made again
    for path in undisturbed.rglob("*.*"):
        if path.is_file():
            assert (scored / path.relative_to(undisturbed)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["", "reward", "mean", "min", "a/b", "..", "a:b", "a,b", "a b", "-x", "x" * 65])
def test_names_are_plain_words(name: str):
    with pytest.raises(InputError, match="plain word"):
        check_name(name)
    check_name("FsfairX-v0.1_b")


def test_scores_can_be_read_at_a_url(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import fsspec

    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(f"{scored}/", "/bucket/scored/", recursive=True)
    local, remote = PreferenceDataset.open(scored), PreferenceDataset.open("memory://bucket/scored")
    assert list(remote.records(rank_by="mean")) == list(local.records(rank_by="mean"))
    memory.rm("/bucket", recursive=True)


def test_the_manifest_reads_back_as_it_was_written(scored: Path):
    content = (scored / "scores/m/scores.json").read_bytes()
    assert Scores.from_bytes(content, "x").to_bytes() == content


def test_writing_needs_begin_first(scored: Path):
    manifest = PreferenceDataset.open(scored).manifest
    with pytest.raises(RuntimeError, match="begin"):
        _ = ScoresFolder(scored, "fresh", manifest).missing
    table = score_table(pa.array(["a"]), np.array([1.0], np.float32), [None])
    assert commit_scores(scored, "fresh", (0, 0, "x"), table, {}).refused == {}
