"""A source at a URL reads as the same files do on this disk, under the same fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from neat_data.errors import InputError
from neat_data.sources import open_source
from tests.support.object_server import Bucket, bucket, s3_server
from tests.support.sources import write_pairs

__all__ = ["bucket", "s3_server"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data" / "helpful" / "train.jsonl", "t0", "t1")
    write_pairs(tmp_path / "data" / "helpful" / "test.jsonl", "e0")
    write_pairs(tmp_path / "data" / "more.jsonl", "m0")
    (tmp_path / "data" / "README.md").write_text("Not data.")
    return tmp_path / "data"


@pytest.fixture
def memory(folder: Path) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    system.put(f"{folder}/", "/elsewhere/data/", recursive=True)
    yield "memory://elsewhere/data"
    system.rm("/elsewhere", recursive=True)


@pytest.mark.parametrize("below", ["", "/more.jsonl", "/helpful/*.jsonl", "/**/t*.jsonl"])
def test_a_url_reads_as_the_same_files_on_this_disk(memory: str, folder: Path, below: str):
    remote, local = open_source(memory + below), open_source(f"{folder}{below}")
    assert list(remote.rows()) == list(local.rows())
    assert remote.fingerprint == local.fingerprint


def test_a_file_of_an_object_store_is_fetched_once_a_version(bucket: Bucket, folder: Path, monkeypatch, tmp_path: Path):
    from neat_data.store.location import writable

    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    place, url = writable(bucket.url()), bucket.url("made/more.jsonl")
    place.put("more.jsonl", (folder / "more.jsonl").read_bytes())
    local = open_source(str(folder / "more.jsonl"))
    for _ in range(2):
        assert open_source(url).fingerprint == local.fingerprint
    assert len(bucket.asked("GET", "more.jsonl")) == 1
    place.document("more.jsonl").write((folder / "helpful" / "test.jsonl").read_bytes())
    assert [row.messages[-1].content for row in open_source(url).rows()] == ["e0"]


def test_nothing_at_a_url_is_said(memory: str):
    for below in ("/none.jsonl", "/none/*.jsonl"):
        with pytest.raises(InputError, match="no such file, and no folder with a data file"):
            open_source(memory + below)
