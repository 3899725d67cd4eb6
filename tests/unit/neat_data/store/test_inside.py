"""Folders that others made: what reaches out of them, waits without end, or lies where it should not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from neat_data.cli import app
from neat_data.errors import InputError
from neat_data.record import Response
from neat_data.report.html import write_page
from neat_data.rounds.candidates import Candidate
from neat_data.rounds.staging import Staging
from neat_data.store.atomic import TEMPORARY, locked, remove_leftovers
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder
from neat_data.store.shard import DamagedShard, shard_bytes, write_shard
from neat_data.store.verify import verify
from tests.support.stores import SETTINGS


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    return done.exit_code, done.output


def read(path: Path) -> int:
    return sum(1 for _ in PreferenceDataset.open(path).records())


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "deeper").mkdir(parents=True)
    (folder / "secret").write_text("secret")
    return folder


@pytest.mark.parametrize(
    "link", ["README.md", ".lock", ".dropped-round-7", ".round", "scores", "rejects/00003.jsonl", "round-0001", "x/y"]
)
def test_a_link_inside_a_dataset_is_named_and_never_followed(dataset: Path, outside: Path, link: str) -> None:
    place = dataset / link
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    file = link.endswith((".md", ".lock", ".jsonl"))
    place.symlink_to(outside / "secret" if file else outside, target_is_directory=not file)
    assert verify(dataset).findings == [f"{link} is a symbolic link; links inside a dataset are not followed."]
    with pytest.raises(InputError, match="is a symbolic link"):
        DatasetFolder.claim(dataset)
    status, output = run("rounds", dataset, "--drop-round", 1)
    assert status == 2
    assert f"{link} is a symbolic link" in output.replace("\n", " ")
    assert sorted(path.name for path in outside.iterdir()) == ["deeper", "secret"]
    assert (outside / "secret").read_text() == "secret"


@pytest.mark.parametrize("link", ["dataset.json", "round-0000", "round-0000/00001.arrow"])
def test_a_link_is_not_read_through(dataset: Path, tmp_path: Path, link: str) -> None:
    moved = tmp_path / "moved"
    (dataset / link).rename(moved)
    (dataset / link).symlink_to(moved)
    with pytest.raises(InputError, match="links inside a dataset are not followed"):
        read(dataset)


@pytest.mark.parametrize(
    "name", ["dataset.json", ".lock", "round-0000/00001.arrow", "round-0000/00003.arrow", "README.md"]
)
def test_nobody_waits_for_a_pipe(dataset: Path, name: str) -> None:
    (dataset / name).unlink(missing_ok=True)
    os.mkfifo(dataset / name)
    verify(dataset)
    for command in (["stats", dataset], ["verify", dataset], ["rounds", dataset, "--drop-round", 1]):
        assert "not expected" not in run(*command)[1]


def test_leftovers_go_with_the_next_writer_folders_too(dataset: Path, outside: Path) -> None:
    left = dataset / f".exp.0123{TEMPORARY}"
    (left / "dataset").mkdir(parents=True)
    (left / "rows.arrow").write_bytes(b"half")
    (dataset / "round-0000" / f".00001.arrow.0123{TEMPORARY}").write_bytes(b"half")
    DatasetFolder.open(dataset, SETTINGS, versions={}).close()
    assert not [path for path in dataset.rglob("*") if path.name.endswith(TEMPORARY)]
    (dataset / f".link{TEMPORARY}").symlink_to(outside)
    remove_leftovers(dataset)
    assert (outside / "secret").exists()
    assert not (dataset / f".link{TEMPORARY}").is_symlink()


def test_a_lock_that_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises((InputError, OSError)), locked(tmp_path):
        pass


@pytest.mark.parametrize("to", ["dataset.json", "exp", "round-0000/00000.arrow", "reviews/x.jsonl", "new/deep/exp"])
def test_no_verb_writes_into_a_dataset(dataset: Path, files: Callable, tmp_path: Path, to: str) -> None:
    before = files(dataset)
    kind = "trl-dpo" if to.endswith(("json", "jsonl", "arrow")) else "hf"
    out = dataset / to if not to.endswith("arrow") else dataset / f"{to}.jsonl"
    commands = [["export", dataset, "--to", kind, "--out", out, "--overwrite"], ["compact", dataset, "--out", out]]
    for command in commands:
        status, output = run(*command)
        assert status == 2
        assert "lies in the dataset" in output or "Not a directory" in output
    with pytest.raises(InputError, match="lies in the dataset"):
        write_page("", out)
    os.symlink(dataset, tmp_path / "link")
    with pytest.raises(InputError, match="lies in the dataset"):
        write_page("", tmp_path / "link" / to)
    assert files(dataset) == before


def test_a_folder_that_holds_more_than_an_export_is_not_overwritten(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    export = ["export", dataset, "--to", "hf", "--out", out]
    assert run(*export)[0] == 0
    assert run(*export, "--overwrite")[0] == 0
    (out / "thesis.txt").write_text("years of work")
    status, output = run(*export, "--overwrite")
    assert (status, "holds what no export wrote (thesis.txt)" in output) == (2, True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_work_goes_on_from_a_manifest_that_was_made_anew(
    dataset: Path, make_record: Callable, add_round: Callable
) -> None:
    (dataset / "dataset.json").write_bytes(b"{")
    assert verify(dataset, rebuild=True).findings == []
    assert PreferenceDataset.open(dataset).complete
    with DatasetFolder.claim(dataset) as folder:
        assert folder.begin_round("responses", {"a": 1}, versions={}) == 1
    (dataset / "dataset.json").unlink()
    (dataset / ".plan").mkdir()
    verify(dataset, rebuild=True)
    assert not PreferenceDataset.open(dataset).complete, "a writer was at work on it"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 200_000,
        b'{"format_version": 1, "rounds": ' + b'{"a":' * 200_000,
        b"null",
        b'"x"',
        b"1" * 5000,
        b'{"format_version": ' + b"9" * 4000 + b"}",
        b'{"format_version": 1, "kind": "score", "fingerprint": "", "settings": null, "rounds": []}',
        b'{"format_version": 1, "kind": "score", "fingerprint": "", "settings": {}, "rounds": {"a": 1}}',
    ],
)
def test_a_manifest_that_is_none_is_called_damaged(dataset: Path, content: bytes) -> None:
    (dataset / "dataset.json").write_bytes(content)
    for command in ("stats", "show", "rounds", "verify"):
        status, output = run(command, dataset)
        assert status in (1, 2)
        assert "not expected" not in output
        assert "dataset.json" in output.replace("\n", "")


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"x" * 700])
def test_a_shard_that_is_none_is_named(dataset: Path, content: bytes) -> None:
    shard = dataset / "round-0000" / "00001.arrow"
    shard.write_bytes(content)
    for command in (
        ["stats", dataset],
        ["show", dataset],
        ["verify", dataset],
        ["compact", dataset, "--out", dataset.parent / "c"],
    ):
        status, output = run(*command)
        assert status in (1, 2)
        assert "not expected" not in output
        assert "00001.arrow" in output.replace("\n", "")
    with DatasetFolder.claim(dataset) as folder, pytest.raises(InputError, match="damaged"):
        folder.done(0)


def test_an_unwritable_folder_is_named(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a mount that is read-only, which a test that runs as root cannot make."""
    import neat_data.store.atomic as atomic

    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(atomic, "_lock_file", refuse)
    status, output = run("rounds", dataset, "--drop-round", 1)
    assert status == 2
    assert "Read-only file system" in output
    assert "not expected" not in output


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The ways to every value inside a JSON value."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in below for place in places(inner, (*path, key)))]


def with_value(value: object, path: tuple, new: object) -> object:
    if not path:
        return new
    copy = value.copy()  # type: ignore[attr-defined]
    copy[path[0]] = with_value(value[path[0]], path[1:], new)  # type: ignore[index]
    return copy


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_manifest_is_read_or_refused(dataset: Path, data: st.DataObject) -> None:
    file = dataset / "dataset.json"
    whole = file.with_suffix(".whole")
    if not whole.exists():
        shutil.copy(file, whole)
    content = json.loads(whole.read_bytes())
    place = data.draw(st.sampled_from(places(content)))
    file.write_text(json.dumps(with_value(content, place, data.draw(JSON))))
    for command in (["stats", dataset], ["rounds", dataset], ["show", dataset, "--json"], ["verify", dataset]):
        assert "not expected" not in run(*command)[1], (place, file.read_text())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_shard_says_of_itself_is_read_or_refused(dataset: Path, data: st.DataObject) -> None:
    from neat_data.store.shard import file_sha256, read_shard, shard_metadata

    file, whole = dataset / "round-0000" / "00001.arrow", dataset.parent / "whole.arrow"
    if not whole.exists():
        shutil.copy(file, whole)
        shutil.copy(dataset / "dataset.json", dataset.parent / "whole.json")
    metadata = shard_metadata(whole)
    place = data.draw(st.sampled_from(places(metadata)))
    file.write_bytes(shard_bytes(read_shard(whole), with_value(metadata, place, data.draw(JSON))))  # type: ignore[arg-type]
    manifest = json.loads((dataset.parent / "whole.json").read_bytes())
    manifest["rounds"][0]["shards"][1] |= {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    for command in (["stats", dataset], ["verify", dataset]):
        assert "not expected" not in run(*command)[1], place
    (dataset / "dataset.json").unlink()
    assert "not expected" not in run("verify", dataset, "--rebuild")[1], place


@pytest.mark.parametrize("content", [b"", b"[" * 200_000, b"null", b'{"round": 1}', b'{"shards": [0], "x": 1}'])
def test_candidates_whose_note_is_damaged_are_told_by_its_name(dataset: Path, content: bytes) -> None:
    (dataset / ".round").mkdir()
    (dataset / ".round" / "round.json").write_bytes(content)
    status, output = run("rounds", dataset, "--drop-round", 1)
    assert status in (1, 2)
    assert "not expected" not in output
    assert "round.json" in output or "queries.arrow" in output


def test_candidates_of_another_shard_or_of_none_are_named(tmp_path: Path) -> None:
    candidate = Candidate("q", "plain", Response("r", "An answer."))
    (tmp_path / "dataset.json").write_text("{}")
    staging = Staging.begin(tmp_path, 1, "expand", {}, {0: ["q"], 1: ["other"]})
    staging.commit(0, [candidate], {})
    staging.commit(1, [candidate], {})
    assert staging.candidates(0)[0] == [candidate]
    with pytest.raises(DamagedShard, match=r"00001.*queries of another shard"):
        staging.candidates(1)
    write_shard(tmp_path / ".round" / "00001.arrow", pa.table({"number": [1]}), {})
    with pytest.raises(DamagedShard, match=r"00001.*holds no candidates"):
        staging.candidates(1)
