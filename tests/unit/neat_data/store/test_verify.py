"""Whatever is wrong with a dataset is found and said in a line; nothing that is right is."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from neat_data.errors import InputError
from neat_data.record import SCHEMA, Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.report.terminal import print_verification
from neat_data.store.atomic import TEMPORARY, locked
from neat_data.store.folder import DatasetFolder
from neat_data.store.shard import shard_bytes, write_shard
from neat_data.store.verify import Verification, verify
from tests.support.growing import add_scores


def test_a_whole_dataset_has_no_findings(dataset: Path, add_round, make_record):
    result = verify(dataset)
    assert (result.findings, result.notes, result.ok) == ([], [], True)
    assert (result.shards, result.records, result.responses, result.labels) == (3, 12, 24, 12)
    assert result.to_dict()["rejected"] == {"not_json": 1}
    assert Verification.from_dict(result.to_dict()) == result
    add_round(dataset, [make_record(0), make_record(2)])
    result = verify(dataset)
    assert (result.findings, result.notes) == ([], [])
    assert (result.shards, result.records, result.responses) == (4, 12, 28)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_or_changed_shard_is_damaged(dataset: Path, share: float):
    shard = dataset / "round-0000" / "00001.arrow"
    content = bytearray(shard.read_bytes())
    shard.write_bytes(content[: int(len(content) * share)])
    assert "round-0000/00001.arrow: damaged: " in verify(dataset).findings[0]
    content[int(len(content) * share)] ^= 16
    shard.write_bytes(content)
    assert verify(dataset).findings == [
        "round-0000/00001.arrow: damaged: its sha256 is not the manifest's (remove it: the same command again makes it "
        "anew)"
    ]


def test_what_belongs_to_a_damaged_shard_is_not_blamed(dataset: Path, add_round, make_record):
    add_round(dataset, [make_record(0)])
    add_scores(dataset, "m", defaultdict(float))
    shard = dataset / "round-0000" / "00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-1])
    (finding,) = verify(dataset).findings
    assert finding.startswith("round-0000/00000.arrow: damaged: ")


def test_shards_that_are_missing_or_unknown_are_told_apart(dataset: Path):
    shards = dataset / "round-0000"
    (shards / "00002.arrow").rename(shards / "00003.arrow")
    assert verify(dataset).findings == [
        "round-0000/00003.arrow: not in the manifest (the same command again adopts it)",
        "round-0000/00002.arrow: missing (the same command again makes it anew)",
    ]


def test_shards_that_changed_places_are_found(dataset: Path):
    content = (dataset / "dataset.json").read_text()
    shards = dataset / "round-0000"
    for a, b in (("00000", "x"), ("00002", "00000"), ("x", "00002")):
        (shards / f"{a}.arrow").rename(shards / f"{b}.arrow")
    assert len(verify(dataset).findings) == 2
    manifest = json.loads(content)
    first, _, last = manifest["rounds"][0]["shards"]
    first["name"], last["name"] = last["name"], first["name"]
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    assert verify(dataset).findings == [
        "round-0000/00002.arrow: was written as shard 0 of round 0",
        "round-0000/00000.arrow: was written as shard 2 of round 0",
    ]


def test_settings_that_were_edited_are_found(dataset: Path):
    file = dataset / "dataset.json"
    file.write_text(file.read_text().replace("float32", "float64"))
    assert verify(dataset).findings == ["dataset.json: the fingerprint does not match the settings"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\x00"])
def test_a_lost_manifest_is_rebuilt_from_the_shards(dataset: Path, content, write_dataset, files):
    whole = files(dataset)
    (dataset / "dataset.json").unlink()
    if content is not None:
        (dataset / "dataset.json").write_bytes(content)
    (finding,) = verify(dataset).findings
    assert "--rebuild" in finding
    result = verify(dataset, rebuild=True)
    assert result.findings == []
    assert "hashes were computed just now" in result.notes[0]
    assert "versions are lost" in result.notes[1]
    assert len(result.notes) == 2, "no writer left work behind, so that the round counts as finished"
    write_dataset(dataset)
    rebuilt = files(dataset)
    lost = json.dumps({"versions": json.loads(whole["dataset.json"])["versions"]})
    assert {**json.loads(rebuilt.pop("dataset.json")), **json.loads(lost)} == json.loads(whole.pop("dataset.json"))
    assert rebuilt == whole


def test_rebuilding_leaves_out_what_cannot_be_read_and_foreign_shards(dataset: Path, settings, make_record):
    (dataset / "dataset.json").unlink()
    shards = dataset / "round-0000"
    (shards / "00001.arrow").write_bytes((shards / "00001.arrow").read_bytes()[:-50])
    write_shard(
        shards / "00003.arrow", to_table([make_record(50)]), {"settings": {"seed": 9}, "labels": 1, "rejected": {}}
    )
    write_shard(shards / "00004.arrow", to_table([make_record(51)]), {})
    findings = verify(dataset, rebuild=True).findings
    assert any(line.startswith("round-0000/00001.arrow: left out, cannot be read") for line in findings)
    assert "round-0000/00003.arrow: left out, made with other settings than the first shard" in findings
    assert any("00004.arrow: left out" in line and "does not say what it was made with" in line for line in findings)


def test_rebuilding_needs_a_shard_and_an_idle_folder(tmp_path: Path, dataset: Path):
    (tmp_path / "empty").mkdir()
    assert "no shard to make it from" in verify(tmp_path / "empty", rebuild=True).findings[0]
    (dataset / "dataset.json").unlink()
    with locked(dataset), pytest.raises(InputError, match="another process"):
        verify(dataset, rebuild=True)
    with pytest.raises(InputError, match="no such local folder"):
        verify(tmp_path / "nowhere")


def _with_response(record: Record, place: int, **changes) -> Record:
    responses = list(record.responses)
    responses[place] = replace(responses[place], **changes)
    return replace(record, responses=tuple(responses))


def _with_label(record: Record, **changes) -> Record:
    return replace(record, labels=(replace(record.labels[0], **changes),))


def _untrimmed(record: Record) -> Record:
    messages = (Message("user", " Hi"),)
    query = query_id(messages)
    response = Response(response_id(query, "x\n"), "x\n", 1.0)
    return Record(query, messages, (response,), (Label("a", None, None, 0, ()),))


FAULTS = {
    "its query_id does not match": lambda r: replace(r, messages=(Message("user", "Other"),)),
    "do not end in a user turn": lambda r: replace(r, messages=(*r.messages, Message("assistant", "x"))),
    "the id does not match the text": lambda r: _with_response(r, 0, text="Other"),
    "not in ranking order": lambda r: replace(r, responses=r.responses[::-1]),
    "the reward is nan": lambda r: _with_response(r, 0, reward=float("nan")),
    "the reward is inf": lambda r: _with_response(r, 0, reward=float("inf")),
    "the reward is None": lambda r: _with_response(r, 0, reward=None),
    "it says round 1 but lies in round 0": lambda r: _with_response(r, 0, round=1),
    "a response occurs twice": lambda r: replace(r, responses=(r.responses[0], *r.responses)),
    "it has no response": lambda r: replace(r, responses=()),
    "names feed, which is no response": lambda r: _with_label(r, order=("feed",)),
    "names a response twice": lambda r: _with_label(r, order=(r.labels[0].order[0],) * 2),
    "has a verdict, but not exactly one": lambda r: _with_label(r, verdict=True),
    "it has no label": lambda r: replace(r, labels=()),
    "a message has surrounding whitespace": _untrimmed,
    "the text has surrounding whitespace": _untrimmed,
}


@pytest.mark.parametrize("expected", FAULTS)
def test_every_broken_promise_of_a_record_is_found(stored, make_record, expected: str):
    path = stored([make_record(0), FAULTS[expected](make_record(1))])
    findings = verify(path).findings
    assert any(expected in line for line in findings), findings
    assert all(line.startswith("round-0000/00000.arrow: query ") for line in findings)


def test_a_query_that_occurs_twice_is_found(stored, make_record):
    record = make_record(1)
    assert verify(stored([record, make_record(0), record])).findings == [
        f"dataset: query {record.query_id}: in more than one record"
    ]


def test_many_faults_of_one_shard_are_cut_short(stored, make_record):
    findings = verify(stored([replace(make_record(row), labels=()) for row in range(9)])).findings
    assert len(findings) == 6
    assert findings[-1] == "round-0000/00000.arrow: and 4 more"


def test_rows_of_a_later_round_must_belong_to_their_base_shard(dataset: Path, add_round, make_record):
    add_round(dataset, [make_record(0), make_record(5)])
    (finding,) = verify(dataset).findings
    assert finding.startswith("round-0001/00000.arrow: query ")
    assert "not in the base shard of the same number" in finding


def test_rejects_that_are_missing_changed_or_unknown_are_found(dataset: Path):
    rejects = dataset / "rejects" / "00001.jsonl"
    content = rejects.read_bytes()
    rejects.write_bytes(content.replace(b"line 1", b"line 2"))
    result = verify(dataset)
    (damaged,) = result.findings  # and no word of sums that cannot hold then
    assert "rejects/00001.jsonl is damaged" in damaged
    said = StringIO()
    print_verification(result, Console(file=said, width=400))
    assert said.getvalue().endswith("responses: 1 thing is wrong\n")
    rejects.write_bytes(content)
    (dataset / "rejects" / "00009.jsonl").write_bytes(content)
    assert verify(dataset).findings == ["rejects/00009.jsonl: belongs to no shard"]
    (dataset / "rejects" / "00009.jsonl").unlink()
    rejects.unlink()
    (missing,) = verify(dataset).findings
    assert "rejects/00001.jsonl is missing, which held 1 rejected row" in missing


def test_rows_that_do_not_add_up_are_found(dataset: Path):
    file = dataset / "dataset.json"
    file.write_text(file.read_text().replace('"source_rows": 13', '"source_rows": 14'))
    assert verify(dataset).findings == ["13 or 14 source rows went in, but 12 are in labels and 1 were rejected"]


def test_a_shard_cut_off_the_end_of_the_manifest_is_found(dataset: Path):
    manifest = json.loads((dataset / "dataset.json").read_text())
    del manifest["rounds"][0]["shards"][1]
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    assert "round-0000/00001.arrow: not in the manifest" in verify(dataset).findings


def test_files_that_do_not_belong_are_told_without_alarm(dataset: Path):
    for name in (f".dataset.json.ab{TEMPORARY}", "notes.txt", ".gitattributes", "README.md"):
        (dataset / name).touch()
    (dataset / "reviews").mkdir()
    (dataset / "reviews" / "ann.jsonl").touch()
    result = verify(dataset)
    assert result.ok
    assert result.notes == [
        f".dataset.json.ab{TEMPORARY}: left by a killed writer; the next run removes it",
        "notes.txt: not a file of this dataset",
    ]


def test_a_review_that_cannot_be_read_is_a_finding_and_a_torn_line_a_note(dataset: Path):
    (dataset / "reviews").mkdir()
    (dataset / "reviews" / "ann.jsonl").write_text('{"response_id": "a", "verdict": "keep"}\n{"resp')
    (dataset / "reviews" / "bob.jsonl").write_text('{"response_id": "a", "verdict": "burn"}\n')
    result = verify(dataset)
    (finding,) = result.findings
    assert finding.startswith("reviews/bob.jsonl, line 1")
    assert result.notes == ["reviews/ann.jsonl: its last line has no end (a killed writer); it does not count"]


def test_an_unfinished_dataset_is_sound_but_said_to_be_unfinished(tmp_path: Path, commit, settings):
    with DatasetFolder.open(tmp_path / "out", settings, versions={}) as folder:
        commit(folder, 1)
        result = verify(tmp_path / "out")
    assert (result.findings, result.notes) == ([], ["round 0 is not finished"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bytes(shard_bytes(pa.table({"x": [1]}), {})), "its columns are not those of a record"),
        (b"no Arrow", "cannot be read (ArrowInvalid"),
        (bytes(shard_bytes(SCHEMA.empty_table(), {}))[:-9], "cannot be read (ArrowInvalid"),
    ],
)
def test_a_wrong_shard_is_a_finding_even_where_its_hash_is_right(dataset: Path, content: bytes, expected: str):
    (dataset / "round-0000" / "00000.arrow").write_bytes(content)
    manifest = json.loads((dataset / "dataset.json").read_text())
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["rounds"][0]["shards"][0].update(entry)
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    assert any(expected in line for line in verify(dataset).findings)
