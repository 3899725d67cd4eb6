"""A folder held by one writer: made, held, left as it was found; settings compared; small files kept in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neat_data.errors import InputError
from neat_data.store.atomic import LOCK, TEMPORARY
from neat_data.store.claim import changes, claimed, others, put, read, readable, version_notes


def test_a_folder_is_made_and_held_by_one_writer(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with claimed(out):
        assert (out / LOCK).exists()
        with pytest.raises(InputError, match="another process is writing"), claimed(out):
            pass
        (out / "result").write_text("x")
    assert [path.name for path in out.iterdir()] == ["result"]


def test_a_folder_that_stays_empty_goes_also_after_a_failure(tmp_path: Path) -> None:
    with claimed(tmp_path / "a"):
        pass
    with pytest.raises(RuntimeError), claimed(tmp_path / "b"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_what_killed_writers_left_goes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / f".x.0000{TEMPORARY}").write_text("half")
    (tmp_path / "below" / "whole").write_text("whole")
    with claimed(tmp_path):
        assert [path.name for path in (tmp_path / "below").iterdir()] == ["whole"]


def test_a_file_in_the_place_of_the_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be used as a folder to write to"), claimed(place):
            pass
    with pytest.raises(InputError, match="cannot be used as a folder"):
        others(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def test_what_begins_with_a_dot_is_nobody_elses(tmp_path: Path) -> None:
    for name in (".lock", ".plan", "b", "a"):
        (tmp_path / name).touch()
    assert others(tmp_path) == ["a", "b"]
    assert others(tmp_path / "nowhere") == []


def test_changed_settings_are_named_three_at_most() -> None:
    old = {"seed": 1, "model": {"name": "a", "dtype": "float32"}, "gone": True, "same": [1]}
    new = {"seed": 2, "model": {"name": "b", "dtype": "bfloat16"}, "same": [1]}
    assert changes(old, old) == ""
    assert changes(old, {**old, "seed": 2}) == "seed: 1 -> 2"
    assert changes(old, new) == (
        'gone: true -> (not set); model.dtype: "float32" -> "bfloat16"; model.name: "a" -> "b" and 1 more'
    )


def test_versions_are_compared_with_those_that_are_known() -> None:
    assert version_notes({}, {"torch": "2"}) == []
    assert version_notes({"torch": "1"}, {"torch": "2"}) == ['version changed since the first run: torch: "1" -> "2"']


def test_a_small_file_is_read_as_it_was_put_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    assert read(file) is None
    put(file, {"b": "\ud800ä", "a": 1})
    assert read(file) == {"b": "\ud800ä", "a": 1}
    assert "ä" in file.read_text(encoding="utf-8")
    put(file, {"b": 1, "a": 2}, indent=1, sort_keys=True)
    assert file.read_text() == json.dumps({"a": 2, "b": 1}, indent=1) + "\n"
    for damaged in ("{", "3", "[1]"):
        file.write_text(damaged)
        with pytest.raises(InputError, match=r"settings\.json: cannot be read"):
            read(file)
    with pytest.raises(InputError, match="cannot be read"), readable(file):
        raise KeyError("content")
