"""Rounds behind the first: begun, taken up again, verified, removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import neat_data
from neat_data.errors import InputError
from neat_data.record import Record, Response, response_id, to_table
from neat_data.store.folder import DatasetFolder
from neat_data.store.verify import verify

SAMPLING = {"policy": "p", "seed": 0}


def _rows(path: Path, shard: int, round: int, text: str) -> list[Record]:
    """One further response to every query of a shard."""
    records = list(neat_data.open(path).records(rounds=[0]))[shard * 4 : shard * 4 + 4]
    return [
        Record(
            record.query_id,
            (),
            (Response(response_id(record.query_id, text), text, 0.25, origin="sampled", round=round),),
        )
        for record in records
    ]


def _grow(path: Path, settings: dict, text: str, shards: int = 3, finish: bool = True) -> int:
    with DatasetFolder.claim(path) as folder:
        round = folder.begin_round("expand", settings, versions={"torch": "1"})
        for number in sorted(set(range(shards)) - folder.done(round)):
            rows = to_table(_rows(path, number, round, text))
            reject = {"name": "f", "subset": None, "split": None, "row": 0, "reason": "unmatched", "raw": "x"}
            folder.record(round, folder.commit(round, number, rows, [reject] if number == 0 else [], {}))
        if finish:
            folder.finish(round, {"asked": 12})
    return round


def test_the_same_settings_are_the_same_round_and_others_the_next(dataset: Path):
    assert _grow(dataset, SAMPLING, "one") == 1
    assert _grow(dataset, SAMPLING, "one") == 1
    assert _grow(dataset, {**SAMPLING, "seed": 1}, "two") == 2
    assert verify(dataset).findings == []
    assert {len(record.responses) for record in neat_data.open(dataset).records()} == {4}


def test_an_unfinished_round_goes_on_and_keeps_others_out(dataset: Path):
    _grow(dataset, SAMPLING, "one", shards=1, finish=False)
    with pytest.raises(InputError, match=r"round 1 is not finished.*seed: 0 -> 1"):
        _grow(dataset, {**SAMPLING, "seed": 1}, "two")
    assert _grow(dataset, SAMPLING, "one") == 1
    assert neat_data.open(dataset).complete


def test_a_dataset_that_is_not_finished_gets_no_round(tmp_path: Path):
    with DatasetFolder.open(tmp_path / "d", {"a": 1}, versions={}) as folder, pytest.raises(InputError, match="score"):
        folder.begin_round("expand", SAMPLING, versions={})


def test_only_the_newest_round_can_be_removed_and_nothing_of_it_stays(dataset: Path):
    before = {p.relative_to(dataset): p.read_bytes() for p in dataset.rglob("*") if p.is_file()}
    _grow(dataset, SAMPLING, "one")
    _grow(dataset, {**SAMPLING, "seed": 1}, "two")
    with DatasetFolder.claim(dataset) as folder:
        for wrong in (0, 1, 3):
            with pytest.raises(InputError, match="only the newest round"):
                folder.drop_round(wrong)
        folder.drop_round(2)
        folder.drop_round(1)
    assert {p.relative_to(dataset): p.read_bytes() for p in dataset.rglob("*") if p.is_file()} == before
    assert verify(dataset).findings == []


def test_a_removal_that_was_killed_is_finished_by_the_next_writer(dataset: Path):
    _grow(dataset, SAMPLING, "one")
    (dataset / "round-0001").rename(dataset / ".dropped-round-1")
    with DatasetFolder.claim(dataset):
        pass
    assert [entry.round for entry in neat_data.open(dataset).manifest.rounds] == [0]
    assert verify(dataset).findings == []
    assert _grow(dataset, {**SAMPLING, "seed": 1}, "two") == 1


def test_verify_finds_what_a_round_may_not_hold(dataset: Path):
    with DatasetFolder.claim(dataset) as folder:
        folder.begin_round("expand", SAMPLING, versions={})
        old = next(neat_data.open(dataset).records()).responses[0].text
        folder.record(1, folder.commit(1, 0, to_table(_rows(dataset, 0, 1, old)[:1]), [], {}))
        folder.record(1, folder.commit(1, 1, to_table(_rows(dataset, 0, 1, "elsewhere")[:1]), [], {}))
        folder.finish(1, {})
    findings = "\n".join(verify(dataset).findings)
    assert "an earlier round has it already" in findings
    assert "its query is not in the base shard of the same number" in findings


def test_verify_finds_damage_in_a_rounds_rejects_and_settings(dataset: Path):
    _grow(dataset, SAMPLING, "one")
    copy = dataset.with_name("copy")
    shutil.copytree(dataset, copy)
    (copy / "rejects/round-0001/00000.jsonl").write_text("{}")
    assert ["damaged" in line for line in verify(copy).findings] == [True]
    file = dataset / "dataset.json"
    file.write_text(file.read_text().replace('"policy": "p"', '"policy": "q"'))
    assert verify(dataset).findings == ["dataset.json: round 1: the fingerprint does not match the settings"]


def test_a_lost_manifest_is_made_anew_with_its_rounds(dataset: Path):
    _grow(dataset, SAMPLING, "one")
    (dataset / "dataset.json").unlink()
    assert verify(dataset, rebuild=True).findings == []
    entry = neat_data.open(dataset).manifest.round(1)
    assert (entry.kind, entry.settings, len(entry.shards)) == ("expand", SAMPLING, 3)
