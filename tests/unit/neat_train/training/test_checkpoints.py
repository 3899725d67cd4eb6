"""A checkpoint counts when it is whole; older ones go only then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neat_train.training.checkpoints import MARK, is_whole, newest_whole, rotate, seal


def checkpoint(run: Path, step: int, *, whole: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights").write_bytes(b"12345")
    (folder / "inner" / "state").write_bytes(b"1")
    if whole:
        seal(folder)
    return folder


def test_the_newest_whole_one_is_found_and_torn_ones_go(tmp_path):
    newest = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 9)
    torn = checkpoint(tmp_path, 12, whole=False)
    assert newest_whole(tmp_path) == newest
    assert not torn.exists()


def test_steps_are_numbers_and_other_folders_are_left_alone(tmp_path):
    (tmp_path / "checkpoint-best").mkdir()
    checkpoint(tmp_path, 9)
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-9"
    assert (tmp_path / "checkpoint-best").exists()


@pytest.mark.parametrize("name", ["weights", "inner/state"])
def test_one_that_lost_a_file_or_part_of_it_is_not_whole(name, tmp_path):
    folder = checkpoint(tmp_path, 1)
    assert is_whole(folder)
    (folder / name).write_bytes(b"")
    assert not is_whole(folder)
    (folder / name).unlink()
    assert not is_whole(folder)
    assert newest_whole(tmp_path) is None


def test_one_whose_bytes_have_changed_is_told_and_not_gone_on_from(tmp_path):
    older, newest = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    (newest / "weights").write_bytes(b"12355")
    said: list[str] = []
    assert newest_whole(tmp_path, said.append) == older
    assert said == [f"{newest / 'weights'}: damaged: it is not what was written; this checkpoint is removed"]
    assert not newest.exists()
    (older / "weights").write_bytes(b"1")
    assert newest_whole(tmp_path, said.append) is None
    assert said[1:] == [f"{older}: damaged: not all of it is there any more; this checkpoint is removed"]


def test_one_of_an_earlier_version_is_believed(tmp_path):
    folder = checkpoint(tmp_path, 1)
    mark = json.loads((folder / MARK).read_bytes())
    (folder / MARK).write_text(json.dumps({"sizes": mark["sizes"]}))
    assert newest_whole(tmp_path) == folder


def test_a_damaged_mark_is_no_mark(tmp_path):
    folder = checkpoint(tmp_path, 1)
    (folder / MARK).write_bytes(b"{")
    assert not is_whole(folder)


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [1, 2, 3, 4]),
        (2, None, [3, 4]),
        (1, None, [4]),
        (2, 1, [1, 4]),
        (1, 2, [2, 4]),
        (9, 1, [1, 2, 3, 4]),
    ],
)
def test_the_oldest_go_and_the_newest_and_the_best_stay(limit, best, left, tmp_path):
    for step in (1, 2, 3, 4):
        checkpoint(tmp_path, step)
    rotate(tmp_path, limit, str(tmp_path / f"checkpoint-{best}") if best else None)
    assert sorted(int(path.name.removeprefix("checkpoint-")) for path in tmp_path.iterdir()) == left
