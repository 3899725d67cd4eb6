"""Which files a name stands for, and what their rows' places say."""

from __future__ import annotations

from pathlib import Path

import pytest

from neat_data.errors import InputError
from neat_data.sources import open_source
from neat_data.sources.files.locate import split_of, subset_of
from tests.support.sources import write_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data" / "helpful-base" / "train.jsonl", "t0", "t1")
    write_pairs(tmp_path / "data" / "helpful-base" / "test.jsonl", "e0")
    write_pairs(tmp_path / "data" / "harmless-base" / "train.jsonl", "t2")
    write_pairs(tmp_path / "data" / "more.jsonl", "m0")
    (tmp_path / "data" / "README.md").write_text("Not data.")
    (tmp_path / "data" / "dataset_info.json").write_text("{}")
    (tmp_path / "data" / ".hidden.jsonl").write_text("{}")
    return tmp_path / "data"


def places(spec: Path | str, **options: str) -> list[tuple[str, str | None, str | None, int]]:
    rows = open_source(str(spec), **options).rows()
    return [(row.place.name, row.place.subset, row.place.split, row.place.row) for row in rows]


def test_a_folder_is_read_in_its_train_split_by_name_with_unmarked_files(folder: Path) -> None:
    assert places(folder) == [
        ("harmless-base/train.jsonl", "harmless-base", "train", 0),
        ("helpful-base/train.jsonl", "helpful-base", "train", 0),
        ("helpful-base/train.jsonl", "helpful-base", "train", 1),
        ("more.jsonl", None, None, 0),
    ]


def test_split_and_subset_choose_among_the_files_of_a_folder(folder: Path) -> None:
    assert places(folder, split="test") == [("helpful-base/test.jsonl", "helpful-base", "test", 0)]
    assert len(places(folder, split="all")) == 5
    assert [place[0] for place in places(folder, subset="harmless-base")] == ["harmless-base/train.jsonl"]


def test_what_is_missing_from_a_folder_is_listed(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no split 'validation'.\n.*split test or train or all"):
        open_source(str(folder), split="validation")
    with pytest.raises(InputError, match="no subset 'online'; it has harmless-base, helpful-base"):
        open_source(str(folder), subset="online")
    (folder.parent / "empty").mkdir()
    with pytest.raises(InputError, match="holds no data file"):
        open_source(str(folder.parent / "empty"))


def test_a_file_named_outright_is_read_whatever_its_split(folder: Path) -> None:
    assert places(folder / "helpful-base" / "test.jsonl") == [("test.jsonl", None, "test", 0)]
    with pytest.raises(InputError, match="split test"):
        open_source(str(folder / "helpful-base" / "test.jsonl"), split="train")


def test_a_glob_reads_every_match_named_from_its_fixed_folder(folder: Path) -> None:
    assert [place[0] for place in places(folder / "*" / "t*.jsonl")] == [
        "harmless-base/train.jsonl",
        "helpful-base/test.jsonl",
        "helpful-base/train.jsonl",
        "helpful-base/train.jsonl",
    ]
    assert len(places(folder / "**" / "*.jsonl", split="test")) == 1


def test_a_relative_path_means_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert places("data/helpful-base") == [("train.jsonl", None, "train", 0), ("train.jsonl", None, "train", 1)]
    assert open_source("data").fingerprint == open_source(str(folder)).fingerprint


@pytest.mark.parametrize(
    "spec", ["/no/such", "./none", "../none", "a/b/c", "none.jsonl", "folder/none.json.gz", "*.csv"]
)
def test_a_path_that_is_not_there_is_never_looked_for_on_the_hub(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(spec)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl.gz", "train"),
        ("harmless-base.test.jsonl.gz", "test"),
        ("harmless.train_gt.jsonl", "train"),
        ("Validation-set.csv", "validation"),
        ("dev/part-3.parquet", "validation"),
        ("test/train.jsonl", "train"),
        ("latest.jsonl", None),
        ("contest.jsonl", None),
        ("data/test_prefs-00000-of-00003.parquet", "test_prefs"),
        ("data-00000-of-00001.arrow", None),
    ],
)
def test_the_split_is_a_word_of_the_name(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_the_subset_is_the_folder_less_data_and_splits() -> None:
    assert [subset_of(key) for key in ("a.jsonl", "data/a.jsonl", "x/a.jsonl", "x/y/a.jsonl")] == [
        None,
        None,
        "x",
        "x/y",
    ]
