"""Folding: the records read the same before and after, no source row is lost, and the dataset can go on growing."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import polars as pl
import pytest

from neat_data.analysis.stats import compute
from neat_data.errors import InputError
from neat_data.scoring.compact import compact
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder
from neat_data.store.scores.format import faults
from neat_data.store.shard import read_shard
from neat_data.store.verify import verify
from tests.support.growing import add_round, add_scores, drop, texts
from tests.support.killing import OUT, Killer, contents


@pytest.fixture
def grown(made_dataset, record_of) -> Path:
    """Seven records in three shards with two rounds, ties within and between them, verdicts and scores of two models.

    Dropped: the chosen response of `c`, both of `d`, one of three that a label of `e` puts in order, and a sampled one.
    """
    records = [
        record_of("a", {"a1": 1.0, "a2": 1.0}, [("a2", "a1"), ("a1", "a2")]),
        record_of("b", {"b1": 1.0}, [("b1",)], verdict=False, meta='{"k": 1}'),
        record_of("c", {"c1": 1.0, "c2": 0.0}, [("c1", "c2")]),
        record_of("d", {"d1": 1.0, "d2": 0.0}, [("d1", "d2"), ("d2", "d1")]),
        record_of("e", {"e1": 1.0, "e2": 0.0, "e3": -1.0}, [("e3", "e2", "e1")]),
        record_of(["f", "g", "h"], {"f1": 1.0, "f2": 0.0}, [()]),
        record_of("i", {"i1": 5.0, "i2": 0.0}, [("i1", "i2")]),
    ]
    dataset = made_dataset(records, shard=3, rejected=["not_json", "not_json", "bad_unicode"])
    path = Path(dataset.path)
    add_round(path, {"a": {"s1": 1.0, "s2": 1.0, "s3": 7.0}, "c": {"s4": 0.5}, "h": {"s5": 0.0}})
    add_round(path, {"a": {"t1": 1.0}, "d": {"t2": 0.0}, "h": {"t3": 0.0, "t4": -0.0}}, seed=1)
    every = [a.text for record in PreferenceDataset.open(path).records() for a in record.responses]
    add_scores(path, "m", {text: None if text in ("a1", "s2") else float(n % 4) for n, text in enumerate(every)})
    add_scores(path, "k", {text: float(n % 3) for n, text in enumerate(every)}, model="k")
    gone = {"c1", "d1", "d2", "e2", "s3"}
    responses = [a for record in PreferenceDataset.open(path).records() for a in record.responses]
    drop(path, [a.response_id for a in responses if a.text in gone])
    return path


VIEWS = [{}, {"rounds": [0]}, {"rounds": [2]}, {"rank_by": "m"}, {"rank_by": "k"}, {"rank_by": "mean"}]


def test_records_read_the_same_before_and_after(grown: Path, tmp_path: Path):
    before = PreferenceDataset.open(grown)
    summary = compact(grown, tmp_path / "folded")
    after = PreferenceDataset.open(tmp_path / "folded")
    for view in VIEWS:
        assert list(after.records(**view)) == list(before.records(**view)), view
    assert texts(after)["a"] == texts(before)["a"]
    assert {a.round for record in after.records() for a in record.responses} == {0, 1, 2}
    assert before.scan_records(scores=True).collect().equals(after.scan_records(scores=True).collect())
    assert after.scan_records().explain().lower().startswith("ipc scan")  # plain shards, mapped
    assert (summary.already, summary.rounds, summary.dropped) == (False, 2, 5)
    assert len(list((tmp_path / "folded").glob("round-*"))) == 1


def test_the_folded_dataset_holds_every_promise(grown: Path, tmp_path: Path):
    compact(grown, tmp_path / "folded")
    result = verify(tmp_path / "folded")
    assert (result.findings, result.notes) == ([], [])
    assert list(faults(tmp_path / "folded")) == []
    first = PreferenceDataset.open(tmp_path / "folded").manifest.round(0)
    # rows in = rows in labels + rows rejected: of 12, the rows of c, of d twice went with what people dropped
    assert first.summary["rejected"] == {"bad_unicode": 1, "dropped_in_review": 3, "not_json": 2}
    assert first.summary["labels"] + 6 == first.summary["source_rows"] == 12
    lines = (tmp_path / "folded" / "rejects" / "00000.jsonl").read_text().splitlines()
    lost = [json.loads(line) for line in lines if "dropped_in_review" in line]
    assert json.loads(lost[0]["raw"]) == {"messages": [{"role": "user", "content": "c"}], "responses": ["c1", "c2"]}


def test_figures_are_the_same_before_and_after(grown: Path, tmp_path: Path):
    compact(grown, tmp_path / "folded")
    for rank_by in (None, "m", "min:reward,k"):
        before, after = (compute(PreferenceDataset.open(p), rank_by=rank_by) for p in (grown, tmp_path / "folded"))
        for name in ("thresholds", "gaps", "rewards", "agreement", "widest", "figures", "left_out"):
            assert getattr(after, name) == getattr(before, name), (rank_by, name)


def test_the_folded_dataset_grows_on_behind_the_folded_rounds(grown: Path, tmp_path: Path):
    folded = tmp_path / "folded"
    compact(grown, folded)
    with DatasetFolder.claim(folded) as folder:
        folder.require_finished()
        assert folder.begin_round("expand", {"seed": 0}, versions={}) == 1  # made already: nothing is sampled twice
        assert folder.manifest.round(1).complete
        assert folder.settings["reward_model"] == PreferenceDataset.open(grown).manifest.settings["reward_model"]
    assert add_round(folded, {"i": {"u1": 2.0}}, seed=2) == 3
    assert verify(folded).findings == []
    with pytest.raises(InputError, match="does not cover every response"):
        compact(folded, tmp_path / "twice")
    for name, model in (("m", "other"), ("k", "k")):
        add_scores(folded, name, {"u1": 0.5}, model=model)
    compact(folded, tmp_path / "twice")
    again = PreferenceDataset.open(tmp_path / "twice")
    assert list(again.records(rank_by="mean")) == list(PreferenceDataset.open(folded).records(rank_by="mean"))
    assert [entry["round"] for entry in again.manifest.settings["folded"]["rounds"]] == [1, 2, 3]
    assert [(entry.round, bool(entry.shards)) for entry in again.manifest.rounds] == [
        (0, True),
        (1, False),
        (2, False),
        (3, False),
    ]
    assert verify(tmp_path / "twice").findings == []


def test_folded_rounds_cannot_be_removed_and_outlive_a_lost_manifest(grown: Path, tmp_path: Path):
    folded = tmp_path / "folded"
    compact(grown, folded)
    with DatasetFolder.claim(folded) as folder, pytest.raises(InputError, match="round 2 was folded"):
        folder.drop_round(2)
    before = PreferenceDataset.open(folded).manifest
    (folded / "dataset.json").unlink()
    assert verify(folded, rebuild=True).findings == []
    after = PreferenceDataset.open(folded).manifest
    for number in (1, 2):
        assert (after.round(number).fingerprint, after.round(number).complete) == (
            before.round(number).fingerprint,
            True,
        )
    assert after.newest.round == 2


def test_compressed_shards_read_the_same(grown: Path, tmp_path: Path):
    compact(grown, tmp_path / "plain")
    compact(grown, tmp_path / "zstd", compression="zstd")
    shard = "round-0000/00000.arrow"
    assert (tmp_path / "zstd" / shard).read_bytes() != (tmp_path / "plain" / shard).read_bytes()
    assert read_shard(tmp_path / "zstd" / shard).equals(read_shard(tmp_path / "plain" / shard))
    with pytest.raises(InputError, match=r'compression: "zstd" -> null'):
        compact(grown, tmp_path / "zstd")


def test_a_dataset_of_one_round_is_copied(made_dataset, record_of, tmp_path: Path):
    path = made_dataset([record_of("a", {"a1": 1.0, "a2": 1.0}, [("a2", "a1")])]).path
    compact(path, tmp_path / "copy")
    assert list(PreferenceDataset.open(tmp_path / "copy").records()) == list(PreferenceDataset.open(path).records())
    assert verify(tmp_path / "copy").findings == []


def test_the_same_again_does_nothing_and_another_dataset_is_refused(grown: Path, tmp_path: Path):
    out = tmp_path / "folded"
    compact(grown, out)
    before = contents(out)
    assert compact(grown, out).already
    assert contents(out) == before
    add_round(grown, {"i": {"u1": 2.0}}, seed=9)
    for name, model in (("m", "other"), ("k", "k")):
        add_scores(grown, name, {"u1": 0.5}, model=model)
    with pytest.raises(InputError, match=r"made with other settings .*folded\.content"):
        compact(grown, out)
    with pytest.raises(InputError, match=r"was made by `score`, not by `compact`"):
        compact(grown, grown)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds something else"):
        compact(grown, tmp_path / "other")


def test_files_that_were_lost_are_made_again(grown: Path, tmp_path: Path):
    folded = tmp_path / "folded"
    compact(grown, folded)
    whole = contents(folded)
    for name in ("scores/m/00001.arrow", "round-0000/00002.arrow"):
        (folded / name).unlink()
        compact(grown, folded)
        assert contents(folded) == whole


def test_what_is_not_finished_is_not_folded(grown: Path, tmp_path: Path):
    with DatasetFolder.claim(grown) as folder:
        folder.begin_round("expand", {"seed": 77}, versions={})
    with pytest.raises(InputError, match="not finished"):
        compact(grown, tmp_path / "folded")
    assert not (tmp_path / "folded").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stride", [29, 9])
def test_killed_between_steps_on_the_disk(grown: Path, tmp_path: Path, stride: int):
    shutil.rmtree(grown / "scores" / "k")
    with Killer("compact", grown, "--out", OUT) as killer:
        undisturbed = tmp_path / "undisturbed"
        assert killer.run(undisturbed) == 0
        expected = contents(undisturbed)
        assert {"round-0000/00002.arrow", "scores/m/00002.arrow", "README.md"} <= set(expected)
        for step, folder in ((stride, tmp_path / "killed"), (3 * stride + 4, None)):
            point, status = 0, -signal.SIGKILL
            while status == -signal.SIGKILL:
                point += step
                into = folder or tmp_path / f"fresh-{point}"
                status = killer.run(into, point)
                if folder is None:  # each killed once; the other lives through all of the kills
                    assert killer.run(into) == 0
                    assert contents(into) == expected
            assert status == 0
            assert point > 10
        assert contents(tmp_path / "killed") == expected
        (undisturbed / "README.md").unlink()  # a kill may come between the last shard and the card
        assert killer.run(undisturbed) == 0
        assert contents(undisturbed) == expected


def test_a_dataset_at_a_url_can_be_folded(grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import fsspec

    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(f"{grown}/", "/bucket/grown/", recursive=True)
    compact("memory://bucket/grown", tmp_path / "remote")
    compact(grown, tmp_path / "local")
    assert contents(tmp_path / "remote") == contents(tmp_path / "local")
    memory.rm("/bucket", recursive=True)
    shutil.rmtree(tmp_path / "cache")


def test_polars_reads_the_folded_shards_as_they_are(grown: Path, tmp_path: Path):
    compact(grown, tmp_path / "folded")
    frame = pl.scan_ipc(tmp_path / "folded" / "round-0000" / "*.arrow").select(pl.col("responses").list.len().sum())
    records = PreferenceDataset.open(grown).records()
    assert frame.collect().item() == sum(len(record.responses) for record in records)
