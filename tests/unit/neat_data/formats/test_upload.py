"""An export below a URL is the same bytes as one on this disk, there whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neat_data.errors import InputError
from neat_data.formats.export import ExportRequest, export
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.location import writable
from tests.support.object_server import Bucket, bucket, s3_server
from tests.support.stores import dataset, files

__all__ = ["bucket", "dataset", "files", "s3_server"]


@pytest.fixture
def opened(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreferenceDataset:
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    return PreferenceDataset.open(dataset)


def test_a_file_at_a_url_is_replaced_only_where_that_is_said(bucket: Bucket, opened: PreferenceDataset, tmp_path: Path):
    request = ExportRequest("trl-dpo", bucket.url("made/pairs.jsonl"))
    local = tmp_path / "pairs.jsonl"
    export(opened, replace(request, out=local))
    assert export(opened, request).out == request.out
    assert bucket.files() == {"pairs.jsonl": local.read_bytes()}
    with pytest.raises(InputError, match=r"pairs\.jsonl: exists already"):
        export(opened, request)
    export(opened, replace(request, limit=1, overwrite=True))
    assert bucket.files()["pairs.jsonl"].count(b"\n") == 1


def test_a_folder_at_a_url_is_the_same_bytes_and_keeps_what_its_user_wrote(
    bucket: Bucket, opened: PreferenceDataset, tmp_path: Path, files
):
    request = ExportRequest("hf", bucket.url("made/hf"))
    export(opened, replace(request, out=tmp_path / "hf"))
    export(opened, request)
    assert bucket.files("made/hf") == files(tmp_path / "hf")
    writable(bucket.url("made/hf")).document("README.md").write(b"Mine.\n")
    writable(bucket.url("made/hf")).put("data-00001-of-00002.arrow", b"of an earlier export")
    export(opened, replace(request, overwrite=True))
    assert bucket.files("made/hf").keys() == files(tmp_path / "hf").keys()
    assert b"Mine." in bucket.files("made/hf")["README.md"]


def test_what_no_export_wrote_is_not_overwritten(bucket: Bucket, opened: PreferenceDataset):
    writable(bucket.url("made/hf")).put("thesis.tex", b"x")
    with pytest.raises(InputError, match=r"holds what no export wrote \(thesis.tex\)"):
        export(opened, ExportRequest("hf", bucket.url("made/hf"), overwrite=True))
