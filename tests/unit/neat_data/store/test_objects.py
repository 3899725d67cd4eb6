"""A dataset below an S3 URL: the same bytes as in a folder, whatever the store does in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from neat_data.errors import InputError, RunError
from neat_data.store.cache import cache_folder
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder
from neat_data.store.location import locate, writable
from neat_data.store.verify import verify
from tests.support.object_server import Bucket


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))


def _without_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As another machine, which has fetched nothing yet."""
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "another"))


def test_a_dataset_is_the_same_bytes_as_in_a_folder_and_reads_the_same(
    bucket: Bucket, dataset: Path, write_dataset: Callable, files: Callable, monkeypatch, tmp_path: Path
):
    url = write_dataset(bucket.url())
    assert bucket.files() == files(dataset)
    assert write_dataset(url) == url  # nothing is made anew
    assert bucket.files() == files(dataset)
    _without_cache(monkeypatch, tmp_path)
    bucket.proxy.requests.clear()
    remote, local = PreferenceDataset.open(url), PreferenceDataset.open(dataset)
    assert list(remote) == list(local)
    assert remote.scan().collect().equals(local.scan().collect())
    assert remote.to_hf().to_list() == local.to_hf().to_list() == list(remote.to_hf(streaming=True))
    shards = [entry.name for entry in local.manifest.round(0).shards]
    assert sorted(bucket.asked("GET", ".arrow")) == [f"made/{name}" for name in shards]  # each once
    assert replace(verify(url), notes=[]) == replace(verify(dataset), notes=[])
    assert verify(url).ok


def test_a_frame_fetches_no_shard_before_it_is_read(bucket: Bucket, write_dataset: Callable, monkeypatch, tmp_path):
    url = write_dataset(bucket.url())
    _without_cache(monkeypatch, tmp_path)
    bucket.proxy.requests.clear()
    frame = PreferenceDataset.open(url).scan_records()
    first = next(iter(PreferenceDataset.open(url).to_hf(streaming=True)))
    assert len(bucket.asked("GET", ".arrow")) == 1
    assert first["query_id"] == frame.select(pl.first("query_id")).collect().item()


def test_going_on_asks_the_store_no_more_often_for_many_shards_than_for_few(
    bucket: Bucket, write_dataset: Callable, settings
):
    asked = []
    for shards in (2, 9):
        url = write_dataset(bucket.url(f"of-{shards}"), shards)
        bucket.proxy.requests.clear()
        with DatasetFolder.open(url, settings, versions={}) as folder:
            assert folder.done(0) == set(range(shards))
            assert folder.finished
        requests = ((method, name.removeprefix(f"of-{shards}/")) for method, name in bucket.proxy.requests)
        asked.append(sorted(each for each in requests if not each[1].endswith(".lease")))  # renewed by the clock
    assert asked[0] == asked[1]


def test_later_rounds_are_dropped(bucket: Bucket, write_dataset: Callable, add_round: Callable, make_record: Callable):
    url = write_dataset(bucket.url())
    whole = bucket.files()
    add_round(url, [make_record(0)])
    assert len(next(iter(PreferenceDataset.open(url))).responses) == 4
    with DatasetFolder.claim(url) as folder:
        folder.drop_round(1)
    assert bucket.files() == whole


def test_a_lost_manifest_is_made_anew(bucket: Bucket, write_dataset: Callable):
    url = write_dataset(bucket.url())
    writable(url).remove("dataset.json")
    with pytest.raises(InputError, match=r"verify s3://.* --rebuild"):
        DatasetFolder.claim(url)
    assert not verify(url).ok
    assert verify(url, rebuild=True).ok
    assert len(PreferenceDataset.open(url)) == 12


def test_a_damaged_object_is_found(bucket: Bucket, write_dataset: Callable):
    url = write_dataset(bucket.url())
    place, name = writable(url), "round-0000/00001.arrow"
    content = bytearray(place.read(name))
    content[len(content) // 2] ^= 1
    place.remove(name)
    place.put(name, bytes(content))
    (finding,) = verify(url).findings
    assert finding.startswith(f"{name}: damaged: its sha256 is not the manifest's")


def test_another_shard_under_the_same_name_is_refused(bucket: Bucket):
    place = writable(bucket.url())
    place.put("round-0000/00000.arrow", b"this")
    place.put("round-0000/00000.arrow", b"this")
    with pytest.raises(RunError, match=r"00000\.arrow: lies there already and is not what was made now"):
        place.put("round-0000/00000.arrow", b"that")


def test_what_lies_there_and_is_no_dataset_is_not_written_over(bucket: Bucket, settings):
    writable(bucket.url()).put("thesis.tex", b"x")
    with pytest.raises(InputError, match=r"holds something else \(thesis.tex\)"):
        DatasetFolder.open(bucket.url(), settings, versions={})
    assert bucket.files() == {"thesis.tex": b"x"}


def _once(kind: str, method: str, ending: str) -> Callable:
    """Something goes wrong with the first request like this."""
    left = [kind]
    return lambda how, name: left.pop() if left and how == method and name.endswith(ending) else None


FAULTS = [
    (kind, "PUT", ending)
    for kind in ("500", "cut", "lost")
    for ending in (".lease", "dataset.json", "00001.arrow", "00001.jsonl", "README.md")
]


@pytest.mark.parametrize(("kind", "method", "ending"), [FAULTS[0], *FAULTS[11:13]])
def test_a_request_that_fails_once_changes_nothing(kind, method, ending, bucket, dataset, write_dataset, files):
    bucket.proxy.fault = _once(kind, method, ending)
    write_dataset(bucket.url())
    assert bucket.files() == files(dataset)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method", "ending"), [*FAULTS[1:11], *FAULTS[13:], ("500", "GET", ".json")])
def test_any_request_that_fails_once_changes_nothing(kind, method, ending, bucket, dataset, write_dataset, files):
    test_a_request_that_fails_once_changes_nothing(kind, method, ending, bucket, dataset, write_dataset, files)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["dataset.json", "00001.arrow"])
def test_an_answer_that_does_not_come_is_asked_for_again(ending, bucket, dataset, write_dataset, files, monkeypatch):
    monkeypatch.setenv("NEAT_ALIGN_STORE_SECONDS", "2")
    bucket.proxy.fault = _once("hang", "PUT", ending)
    write_dataset(bucket.url())
    assert bucket.files() == files(dataset)


@pytest.mark.slow
def test_a_store_that_stays_down_is_said_and_the_same_command_goes_on(
    bucket, dataset, write_dataset, files, monkeypatch
):
    monkeypatch.setenv("NEAT_ALIGN_STORE_SECONDS", "1")
    bucket.proxy.fault = lambda method, name: "500" if name.endswith("00001.arrow") else None
    with pytest.raises(RunError, match=r"00001\.arrow: the store does not answer \(InternalError\)(.|\n)*goes on"):
        write_dataset(bucket.url())
    bucket.proxy.fault = lambda method, name: None
    write_dataset(bucket.url())
    assert bucket.files() == files(dataset)


def test_credentials_that_expire_on_the_way_are_said(bucket, dataset, write_dataset, files):
    bucket.proxy.fault = lambda method, name: "expired" if name.endswith("00001.arrow") else None
    with pytest.raises(RunError, match=r"refuses these credentials \(ExpiredToken\)(.|\n)*Renew them"):
        write_dataset(bucket.url())
    bucket.proxy.fault = lambda method, name: None
    write_dataset(bucket.url())
    assert bucket.files() == files(dataset)


def test_a_store_without_conditional_puts_is_refused_before_anything_is_written(bucket: Bucket, settings):
    bucket.proxy.fault = lambda method, name: "unconditional"
    with pytest.raises(InputError, match="does not honour conditional puts"):
        DatasetFolder.open(bucket.url(), settings, versions={})
    with pytest.raises(InputError, match="nothing lies there"):
        verify(bucket.url())


def test_a_bucket_that_is_not_there_is_said(bucket: Bucket, settings):
    for use in (lambda url: DatasetFolder.open(url, settings, versions={}), PreferenceDataset.open):
        with pytest.raises(InputError, match="no such bucket"):
            use("s3://no-such-bucket-here/x")


def test_missing_credentials_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no credentials\.\nGive them as for AWS's own tools"):
        locate("s3://somewhere/without-credentials").read("dataset.json")


def test_the_cache_is_filled_by_the_writer(bucket: Bucket, write_dataset: Callable):
    bucket.proxy.requests.clear()
    list(PreferenceDataset.open(write_dataset(bucket.url())))
    assert bucket.asked("GET", ".arrow") == []
    assert len(list((cache_folder() / "shards").iterdir())) == 3
