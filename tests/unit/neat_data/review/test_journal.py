"""A rater's file that is written: once each, whole, beside other writers, whatever a killed one left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neat_data.errors import InputError, RunError
from neat_data.review.journal import Journal
from neat_data.store.reviews import Event, read_events


def _lines(path: Path) -> list[Event]:
    return list(read_events(path.read_bytes(), path.name).events)


def test_what_is_appended_is_in_the_file_with_its_time(tmp_path: Path):
    journal = Journal(tmp_path, "ann")
    written = journal.append(Event("1", "a", "keep", note="fine"))
    assert _lines(tmp_path / "reviews" / "ann.jsonl") == [written]
    assert written.time.endswith("+00:00")


def test_nothing_is_written_through_a_link_or_read_from_a_pipe(tmp_path: Path):
    outside, reviews = tmp_path / "outside", tmp_path / "dataset" / "reviews"
    outside.touch()
    reviews.mkdir(parents=True)
    (reviews / "ann.jsonl").symlink_to(outside)
    with pytest.raises(InputError, match="symbolic link"):
        Journal(tmp_path / "dataset", "ann")
    os.mkfifo(reviews / "ben.jsonl")
    with pytest.raises(InputError, match="no regular file"):
        Journal(tmp_path / "dataset", "ben")
    assert outside.read_bytes() == b""


def test_an_event_that_is_sent_again_is_written_once(tmp_path: Path):
    journal = Journal(tmp_path, "ann")
    first = journal.append(Event("1", "a", "keep"))
    assert journal.append(Event("1", "a", "keep")) == first
    assert Journal(tmp_path, "ann").append(Event("1", "a", "keep")) == first
    assert len(_lines(journal.path)) == 1


def test_an_id_that_names_another_event_is_refused(tmp_path: Path):
    journal = Journal(tmp_path, "ann")
    journal.append(Event("1", "a", "keep"))
    with pytest.raises(InputError, match="another content"):
        journal.append(Event("1", "a", "drop"))


def test_only_what_is_there_can_be_taken_back(tmp_path: Path):
    journal = Journal(tmp_path, "ann")
    journal.append(Event("1", "a", "drop"))
    journal.append(Event("2", "a", undoes="1"))
    assert journal.standing() == {}
    with pytest.raises(InputError, match="no event '7'"):
        journal.append(Event("3", "a", undoes="7"))


def test_two_writers_see_each_other(tmp_path: Path):
    first, second = Journal(tmp_path, "ann"), Journal(tmp_path, "ann")
    for number in range(6):
        (first, second)[number % 2].append(Event(str(number), "a", "keep"))
    assert [event.event for event in first.events()] == list("012345")
    assert [event.event for event in _lines(first.path)] == list("012345")


def test_a_line_that_a_killed_writer_left_goes_and_is_told(tmp_path: Path):
    path = tmp_path / "reviews" / "ann.jsonl"
    path.parent.mkdir()
    path.write_bytes(Event("1", "a", "keep").to_line() + b'{"event":"2","resp')
    journal = Journal(tmp_path, "ann")
    assert [event.event for event in journal.events()] == ["1"]
    journal.append(Event("3", "b", "drop"))
    assert [event.event for event in _lines(path)] == ["1", "3"]
    assert journal.torn


def test_a_whole_line_that_lacks_its_newline_is_ended(tmp_path: Path):
    path = tmp_path / "reviews" / "ann.jsonl"
    path.parent.mkdir()
    path.write_bytes(Event("1", "a", "keep").to_line()[:-1])
    journal = Journal(tmp_path, "ann")
    journal.append(Event("2", "b", "drop"))
    assert [event.event for event in _lines(path)] == ["1", "2"]
    assert not journal.torn


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "reviews").write_text("a file")
    with pytest.raises(RunError, match="is not saved"):
        Journal(tmp_path, "ann").append(Event("1", "a", "keep"))


def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(tmp_path, "ann")
    journal.append(Event("1", "a", "keep"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("neat_data.review.journal.os.fsync", full)
        with pytest.raises(RunError, match="No space left"):
            journal.append(Event("2", "b", "drop"))
    journal.append(Event("3", "b", "drop"))
    assert [event.event for event in _lines(journal.path)] == ["1", "3"]
