"""The reading side: every reader gives the same ranked responses, lazily, over rounds, reviews and URLs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import polars as pl
import pyarrow as pa
import pytest

import neat_data
from neat_data.errors import InputError, RunError
from neat_data.record import SCHEMA, Message, Record, Response, query_id, response_id, to_table
from neat_data.store.cache import cache_folder
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _drop(dataset: Path, *ids: str, rater: str = "ann", verdict: str = "drop") -> None:
    (dataset / "reviews").mkdir(exist_ok=True)
    with (dataset / "reviews" / f"{rater}.jsonl").open("a") as file:
        file.writelines(json.dumps({"response_id": id, "verdict": verdict}) + "\n" for id in ids)


def _rows(opened: PreferenceDataset) -> list[tuple]:
    """(query_id, rank, response_id, reward) of every response, from records."""
    return [
        (record.query_id, rank, response.response_id, response.reward)
        for record in opened.records()
        for rank, response in enumerate(record.responses)
    ]


def _assert_readers_agree(opened: PreferenceDataset) -> None:
    columns = ["query_id", "rank", "response_id", "reward"]
    assert opened.scan().select(columns).collect().rows() == _rows(opened)
    records = [record.to_dict() for record in opened.records()]
    assert opened.scan_records().collect().to_dicts() == records
    assert opened.to_hf().to_list() == records


def test_records_come_back_in_source_order(dataset: Path, make_record):
    opened = neat_data.open(str(dataset))
    assert list(opened.records()) == [make_record(row) for row in (*range(4), *range(5, 9), *range(10, 14))]
    assert len(opened) == 12
    assert opened.complete
    assert opened.manifest.settings["reward_model"]["model"] == "given"


def test_a_dataset_is_a_sequence_of_its_records(dataset: Path):
    opened = neat_data.open(dataset)
    records = list(opened.records())
    assert list(opened) == records
    assert [opened[position] for position in range(12)] == records
    assert [opened[position] for position in range(-12, 0)] == records
    assert opened[3:9:2] == records[3:9:2]
    assert opened[-2:] == records[-2:]
    for position in (12, -13):
        with pytest.raises(IndexError, match=f"no record {position}; there are 12"):
            opened[position]


def test_a_record_is_found_by_its_query(dataset: Path, make_record):
    opened = neat_data.open(dataset)
    for record in opened.records():
        assert opened[record.query_id] == record
        assert record.query_id in opened
    unknown = make_record(99).query_id
    assert unknown not in opened
    assert 3 not in opened
    with pytest.raises(KeyError, match=unknown):
        opened[unknown]


def test_positions_and_queries_are_those_of_the_records_that_people_left(dataset: Path, add_round):
    records = list(neat_data.open(dataset).records())
    add_round(dataset, records[:4])
    _drop(dataset, *(response.response_id for response in records[5].responses), records[8].responses[0].response_id)
    opened = neat_data.open(dataset)
    seen = list(opened.records())
    assert len(seen) == len(opened) == 11
    assert [opened[position] for position in range(11)] == seen
    assert [opened[record.query_id] for record in seen] == seen
    assert len(opened[0].responses) == 4
    assert records[5].query_id not in opened


def test_a_dataset_says_what_it_is_in_one_line(dataset: Path):
    opened = neat_data.open(dataset)
    assert repr(opened) == f"PreferenceDataset({str(dataset)!r}, 12 records, 24 responses, reward model 'given')"


def test_a_notebook_shows_text_of_a_dataset_escaped(tmp_path: Path):
    query = (Message("user", "<script>alert(1)</script>" + "x" * 200),)
    text = "<img src=x onerror=alert(1)> & 'more'"
    response = Response(response_id(query_id(query), text), text, reward=0.5)
    settings = {"source": {}, "reward_model": {"model": "<b>m</b>"}}
    with DatasetFolder.open(tmp_path / "<i>d</i>", settings, versions={}) as folder:
        folder.record(0, folder.commit(0, 0, to_table([Record(query_id(query), query, (response,))]), [], {}))
        folder.finish(0, {})
    shown = neat_data.open(tmp_path / "<i>d</i>")._repr_html_()
    assert not {"<script", "<img", "<b>", "<i>"} & {
        shown[start : start + n] for start in range(len(shown)) for n in (3, 4, 7)
    }
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; &#x27;more&#x27;" in shown
    assert "x" * 136 not in shown
    assert "0.500" in shown
    assert "1 records, 1 responses, reward model &#x27;&lt;b&gt;m&lt;/b&gt;&#x27;" in shown


def test_every_reader_gives_the_same(dataset: Path):
    _assert_readers_agree(PreferenceDataset.open(dataset))


def test_rounds_are_joined_and_ranked(dataset: Path, add_round, make_record):
    add_round(dataset, [make_record(2), make_record(0)])
    opened = PreferenceDataset.open(dataset)
    rewards = [[response.reward for response in record.responses] for record in opened.records()]
    assert rewards[:4] == [[5.0, 1.0, -0.5, -5.0], [1.0, -0.5], [5.0, 1.0, -0.5, -5.0], [1.0, -0.5]]
    assert len(rewards) == len(opened) == 12
    _assert_readers_agree(opened)


def test_rounds_can_be_chosen(dataset: Path, add_round, make_record):
    add_round(dataset, [make_record(2)])
    opened = PreferenceDataset.open(dataset)
    assert [len(record.responses) for record in opened.records([0])] == [2] * 12
    (record,) = opened.records([1])
    assert [response.reward for response in record.responses] == [5.0, -5.0]
    assert record.messages == make_record(2).messages
    assert record.labels == ()  # they put in order what is not there


def test_dropped_responses_are_left_out_unless_asked_for(stored, make_record):
    records = [make_record(0, (3.0, 2.0, 1.0)), make_record(1), make_record(2)]
    best, middle = (response.response_id for response in records[0].responses[:2])
    path = stored(records)
    _drop(path, best, *(response.response_id for response in records[1].responses))
    opened = PreferenceDataset.open(path)
    kept = list(opened.records())
    assert [record.query_id for record in kept] == [records[0].query_id, records[2].query_id]
    assert kept[0].responses[0].response_id == middle
    assert kept[0].labels == ()
    assert list(opened.records(dropped=True)) == records
    assert opened.scan(dropped=True).collect().height == 7
    _assert_readers_agree(opened)


def test_the_latest_verdict_of_each_reviewer_counts(stored, make_record):
    first, second = (response.response_id for response in make_record(0).responses)
    path = stored([make_record(0)])
    _drop(path, first, second)
    _drop(path, first, verdict="keep")
    _drop(path, second, rater="bob", verdict="keep")
    assert PreferenceDataset.open(path).dropped == {second}


def test_a_review_line_that_cannot_be_read_is_named(stored, make_record):
    path = stored([make_record(0)])
    _drop(path, "a")
    (path / "reviews" / "bob.jsonl").write_text('{"response_id": "a", "verdict": "keep"}\n{"respo\n')
    with pytest.raises(InputError, match=r"reviews/bob\.jsonl, line 2"):
        list(PreferenceDataset.open(path).records())


def test_who_must_agree_to_leave_a_response_out_can_be_chosen(stored, make_record):
    one, two, three = (response.response_id for response in make_record(0, (3.0, 2.0, 1.0)).responses)
    path = stored([make_record(0, (3.0, 2.0, 1.0))])
    _drop(path, one, two, three)
    _drop(path, two, three, rater="bob")
    _drop(path, one, three, rater="cy", verdict="keep")
    opened = {by: neat_data.open(path, drop_by=by) for by in ("any", "majority", "all")}
    assert opened["any"].dropped == {one, two, three}
    assert opened["majority"].dropped == {two, three}
    assert opened["all"].dropped == {two}
    assert [len(record.responses) for record in opened["majority"].records()] == [1]
    assert [opened[by].dropped_count for by in opened] == [3, 2, 1]
    with pytest.raises(InputError, match="drop_by"):
        neat_data.open(path, drop_by="two")


def test_verdicts_on_responses_that_are_not_there_are_not_counted(stored, make_record):
    path = stored([make_record(0)])
    _drop(path, "0" * 16, make_record(0).responses[0].response_id)
    assert neat_data.open(path).dropped_count == 1


def test_a_dataset_without_records_can_be_read(tmp_path: Path, settings):
    with DatasetFolder.open(tmp_path / "a", settings, versions={}) as folder:
        pass
    with DatasetFolder.open(tmp_path / "b", settings, versions={}) as folder:
        folder.record(0, folder.commit(0, 0, to_table([]), [], {"source_rows": 0}))
    for path in (tmp_path / "a", tmp_path / "b"):
        opened = PreferenceDataset.open(path)
        assert (len(opened), opened.complete) == (0, False)
        assert opened.scan().collect().height == 0
        assert set(opened.scan().collect_schema()) >= {"query_id", "rank", "reward"}
        _assert_readers_agree(opened)


def test_scanning_reads_nothing_before_it_is_asked_to(dataset: Path, add_round, make_record):
    add_round(dataset, [make_record(0)])
    opened = PreferenceDataset.open(dataset)
    for shard in dataset.glob("round-*/*.arrow"):
        shard.rename(shard.with_suffix(".away"))
    frame = opened.scan().filter(pl.col("rank") == 0).select(pl.len())
    for shard in dataset.glob("round-*/*.away"):
        shard.rename(shard.with_suffix(".arrow"))
    assert frame.collect().item() == 12


def test_a_path_with_glob_characters_is_a_path(tmp_path: Path, write_dataset):
    path = write_dataset(tmp_path / "a[1]*")
    assert PreferenceDataset.open(path).scan().collect().height == 24


def test_the_hf_dataset_is_mapped_and_named_by_its_content(dataset: Path, tmp_path: Path, write_dataset):
    before = pa.total_allocated_bytes()
    first = PreferenceDataset.open(dataset).to_hf()
    assert pa.total_allocated_bytes() - before < 1000
    second = PreferenceDataset.open(write_dataset(tmp_path / "elsewhere")).to_hf()
    other = PreferenceDataset.open(write_dataset(tmp_path / "larger", 4)).to_hf()
    assert first._fingerprint == second._fingerprint != other._fingerprint
    assert first.features.arrow_schema.remove_metadata() == SCHEMA


def test_the_compacted_cache_follows_the_content(stored, make_record, own_cache: Path):
    path = stored([make_record(0), make_record(1)])
    _drop(path, make_record(0).responses[0].response_id)
    assert PreferenceDataset.open(path).to_hf()[0]["responses"][0]["reward"] == -0.5
    (cached,) = own_cache.rglob("*.arrow")
    changed = cached.stat().st_mtime_ns
    PreferenceDataset.open(path).to_hf()
    assert cached.stat().st_mtime_ns == changed
    _drop(path, make_record(0).responses[0].response_id, verdict="keep")
    assert PreferenceDataset.open(path).to_hf()[0]["responses"][0]["reward"] == 1.0


@pytest.fixture
def url(dataset: Path) -> Iterator[str]:
    """The dataset in fsspec's memory."""
    memory = fsspec.filesystem("memory")
    memory.put(f"{dataset}/", "/bucket/dataset/", recursive=True)
    yield "memory://bucket/dataset"
    memory.rm("/bucket", recursive=True)


def test_a_url_is_read_through_a_cache_that_knows_its_content(url: str, dataset: Path, own_cache: Path):
    opened = neat_data.open(url)
    assert _rows(opened) == _rows(PreferenceDataset.open(dataset))
    _assert_readers_agree(opened)
    cached = sorted(own_cache.rglob("*.arrow"))
    assert len(cached) == 3
    cached[0].write_bytes(b"damaged")
    assert _rows(opened) == _rows(PreferenceDataset.open(dataset))


def test_reviews_at_a_url_count(url: str):
    opened = neat_data.open(url)
    first = next(iter(opened.records())).responses[0].response_id
    event = json.dumps({"response_id": first, "verdict": "drop"}).encode()
    fsspec.filesystem("memory").pipe("/bucket/dataset/reviews/ann.jsonl", event)
    assert neat_data.open(url).dropped == {first}


def test_a_damaged_transfer_is_refused(url: str, own_cache: Path):
    fsspec.filesystem("memory").pipe("/bucket/dataset/round-0000/00000.arrow", b"cut")
    with pytest.raises(RunError, match=r"00000\.arrow: its sha256 is not what the manifest says"):
        list(neat_data.open(url).records())
    assert [path for path in own_cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("scheme", ["memory://nowhere", "nosuchscheme://bucket/x"])
def test_a_url_that_holds_no_dataset_is_an_input_error(scheme: str):
    with pytest.raises(InputError, match=r"no dataset folder|nosuchscheme"):
        neat_data.open(scheme)


def test_a_folder_that_is_no_dataset_is_an_input_error(tmp_path: Path, dataset: Path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="no dataset folder"):
            neat_data.open(str(path))
    (dataset / "dataset.json").unlink()
    with pytest.raises(InputError, match="--rebuild"):
        neat_data.open(str(dataset))


def test_the_cache_lies_in_the_users_cache_folder(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    assert cache_folder() == own_cache
    monkeypatch.delenv("NEAT_ALIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/neat-align")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "neat-align"


def test_a_record_found_by_any_reader_is_a_record(dataset: Path):
    opened = PreferenceDataset.open(dataset)
    rows = opened.scan_records().collect().to_dicts()
    assert [Record.from_dict(row) for row in rows] == list(opened.records())
