"""The writing side: what is resumed, what is refused, and that the order of events leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from neat_data.errors import InputError, RunError
from neat_data.record import to_table
from neat_data.store import folder as folders
from neat_data.store.claim import differences
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder
from neat_data.store.local_folder import LocalFolder
from neat_data.store.manifest import Manifest, fingerprint_of
from neat_data.store.markers import BEGIN, END, with_body
from neat_data.store.shard import ShardEntry, shard_metadata


def test_the_order_of_commits_and_resuming_leave_no_trace(tmp_path: Path, commit, settings, write_dataset, files):
    undisturbed = write_dataset(tmp_path / "a", 4)
    with DatasetFolder.open(tmp_path / "b", settings, versions={"pyarrow": "1"}) as folder:
        commit(folder, 2)
        commit(folder, 0)
    write_dataset(tmp_path / "b", 4)
    assert files(tmp_path / "b") == files(undisturbed)


def test_equal_content_in_another_folder_has_equal_bytes(tmp_path: Path, write_dataset, files):
    assert files(write_dataset(tmp_path / "a")) == files(write_dataset(tmp_path / "elsewhere" / "b"))


def test_going_on_lists_the_folder_no_more_often_for_many_shards_than_for_few(
    tmp_path: Path, settings, write_dataset, monkeypatch
):
    list_folder, listed, counts = LocalFolder.files, [], []
    monkeypatch.setattr(LocalFolder, "files", lambda self, name: listed.append(name) or list_folder(self, name))
    for shards in (2, 9):
        path = write_dataset(tmp_path / str(shards), shards)
        listed.clear()
        with DatasetFolder.open(path, settings, versions={}) as folder:
            assert folder.done(0) == set(range(shards))
            assert folder.finished
        counts.append(len(listed))
    assert counts[0] == counts[1]


def test_a_shard_that_the_manifest_does_not_know_is_adopted(tmp_path: Path, dataset, settings, make_record, files):
    whole = files(dataset)
    with DatasetFolder.open(tmp_path / "out", settings, versions={"pyarrow": "1"}) as folder:
        folder.commit(0, 0, to_table([make_record(row) for row in range(4)]), [], {"source_rows": 4})
    with DatasetFolder.open(tmp_path / "out", settings, versions={"pyarrow": "1"}) as folder:
        assert folder.entries(0) == ()
        assert folder.done(0) == {0}
        (entry,) = folder.entries(0)
    assert entry == Manifest.from_bytes(whole["dataset.json"], "").round(0).shards[0]


def test_a_shard_of_other_settings_is_not_adopted(tmp_path: Path, dataset, settings):
    with DatasetFolder.open(tmp_path / "out", {"seed": 2}, versions={}) as folder:
        (tmp_path / "out" / "round-0000").mkdir()
        (tmp_path / "out" / "round-0000" / "00000.arrow").write_bytes((dataset / "round-0000/00000.arrow").read_bytes())
        with pytest.raises(InputError, match="other settings"):
            folder.done(0)


@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_shard_is_named_when_resuming(dataset: Path, settings, known: bool):
    number = 0 if known else 7
    shard = dataset / "round-0000" / f"{number:05d}.arrow"
    shard.write_bytes((dataset / "round-0000" / "00000.arrow").read_bytes()[:-100])
    with DatasetFolder.open(dataset, settings, versions={}) as folder:
        with pytest.raises(InputError, match=rf"{number:05d}.arrow: damaged.*\n.*Remove it"):
            folder.done(0)
        assert folder.finished is not known


def test_a_shard_that_was_removed_is_made_again(dataset: Path, write_dataset, files):
    whole = files(dataset)
    (dataset / "round-0000" / "00001.arrow").unlink()
    write_dataset(dataset)
    assert files(dataset) == whole


def test_other_settings_are_refused_by_name(dataset: Path, settings):
    changed = {**settings, "reward_model": {"model": "given", "dtype": "bfloat16"}}
    with pytest.raises(InputError, match=r'reward_model.dtype: "float32" -> "bfloat16"\)'):
        DatasetFolder.open(dataset, changed, versions={})
    with pytest.raises(InputError, match="made by `score`, not by `compact`"):
        DatasetFolder.open(dataset, settings, versions={}, kind="compact")
    with DatasetFolder.open(dataset, settings, versions={}) as folder:  # nobody holds it after a refusal
        assert folder.finished


def test_changed_versions_are_noted_and_the_first_ones_kept(dataset: Path, settings, files):
    before = files(dataset)
    with DatasetFolder.open(dataset, settings, versions={"pyarrow": "2"}) as folder:
        assert folder.notes == ['version changed since the first run: pyarrow: "1" -> "2"']
    assert files(dataset) == before


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path, settings, files):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"something else \(thesis.tex\)"):
        DatasetFolder.open(tmp_path, settings, versions={})
    with pytest.raises(InputError, match="cannot be used as a folder"):
        DatasetFolder.open(tmp_path / "thesis.tex", settings, versions={})
    assert files(tmp_path) == {"thesis.tex": b"x"}


def test_shards_without_a_manifest_are_not_written_over(dataset: Path, settings):
    (dataset / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"verify .* --rebuild"):
        DatasetFolder.open(dataset, settings, versions={})


def test_a_url_that_cannot_keep_writers_apart_is_refused_for_writing(settings):
    with pytest.raises(InputError, match="written to local folders, s3://, gs:// and az://"):
        DatasetFolder.open(Path("memory://bucket/out"), settings, versions={})


def test_a_folder_that_cannot_be_read_is_held_by_nobody_afterwards(dataset: Path):
    whole = (dataset / "dataset.json").read_bytes()
    (dataset / "dataset.json").write_bytes(whole[:-9])
    with pytest.raises(InputError, match="damaged") as refused:
        DatasetFolder.claim(dataset)
    assert refused.value.__traceback__ is not None  # which keeps the frames, and what they held, alive
    (dataset / "dataset.json").write_bytes(whole)
    DatasetFolder.claim(dataset).close()


def test_a_second_writer_is_refused(tmp_path: Path, settings):
    with DatasetFolder.open(tmp_path, settings, versions={}), pytest.raises(InputError, match="another process"):
        DatasetFolder.claim(tmp_path)


def test_rows_that_do_not_add_up_are_not_called_finished(tmp_path: Path, commit, settings):
    with DatasetFolder.open(tmp_path, settings, versions={}) as folder:
        commit(folder, 0)
        with pytest.raises(RunError, match="5 source rows went in, but 4 are in labels and 0 were rejected"):
            folder.finish(0, {"source_rows": 5})
        assert not folder.finished


def test_a_gap_in_the_shards_is_not_called_finished(tmp_path: Path, commit, settings):
    with DatasetFolder.open(tmp_path, settings, versions={}) as folder:
        commit(folder, 1)
        with pytest.raises(RunError, match="shards are missing"):
            folder.finish(0, {"source_rows": 5})


def test_the_summary_counts_what_was_stored(dataset: Path, settings):
    with DatasetFolder.open(dataset, settings, versions={}) as folder:
        assert folder.summary(0) == {
            "source_rows": 13,
            "records": 12,
            "responses": 24,
            "labels": 12,
            "rejected": {"not_json": 1},
        }


def test_a_shard_says_what_it_was_made_with(dataset: Path, settings):
    metadata = shard_metadata(dataset / "round-0000" / "00001.arrow")
    assert metadata["fingerprint"] == fingerprint_of(settings)
    assert metadata["settings"] == settings
    assert (metadata["round"], metadata["number"], metadata["source_rows"]) == (0, 1, 5)
    assert metadata["rejected"] == {"not_json": 1}


def test_rejects_keep_what_is_no_unicode(tmp_path: Path, settings):
    with DatasetFolder.open(tmp_path, settings, versions={}) as folder:
        folder.commit(0, 0, to_table([]), [{"reason": "bad_unicode", "raw": "a\ud800"}], {})
    assert (tmp_path / "rejects" / "00000.jsonl").read_bytes() == b'{"raw":"a\\ud800","reason":"bad_unicode"}\n'


def test_the_manifest_comes_back(dataset: Path):
    content = (dataset / "dataset.json").read_bytes()
    assert Manifest.from_bytes(content, "").to_bytes() == content


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format_version": 1}', b"\xff", b'{"format_version": 2}'])
def test_a_damaged_manifest_is_an_error_with_advice(content: bytes):
    with pytest.raises(InputError, match=r"x/dataset\.json: (damaged.*\n.*--rebuild|format version 2)"):
        Manifest.from_bytes(content, "x/dataset.json")


def test_a_manifest_cannot_name_files_outside_its_folder(dataset: Path):
    content = (dataset / "dataset.json").read_bytes().replace(b"round-0000/00001", b"../../elsewhere1")
    with pytest.raises(InputError, match="is no shard of round 0"):
        Manifest.from_bytes(content, "x")


def test_differences_name_settings_that_came_and_went():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 1}, "d": None}) == [
        "c: 2 -> (not set)",
        "d: (not set) -> null",
    ]


def test_the_users_part_of_the_card_is_kept_to_the_byte(dataset: Path, settings):
    (dataset / "README.md").write_bytes(b"\xef\xbb\xbfMy words\r\n\xff no UTF-8")
    with DatasetFolder.open(dataset, settings, versions={}) as folder:
        folder.write_card("first")
        first = (dataset / "README.md").read_bytes()
        (dataset / "README.md").write_bytes(first + b"and after\r\n")
        folder.write_card("second")
    content = (dataset / "README.md").read_bytes()
    assert content == first.replace(b"first", b"second") + b"and after\r\n"
    assert content.startswith(b"\xef\xbb\xbfMy words\r\n\xff no UTF-8\n\n" + BEGIN.encode())


def test_a_marker_that_lost_its_partner_costs_the_user_nothing():
    broken = f"mine {BEGIN} also mine\n".encode()
    once = with_body(broken, "body")
    assert once.startswith(broken)
    assert with_body(once, "new") == once.replace(b"body", b"new")


def test_a_body_that_holds_markers_cannot_end_its_part():
    once = with_body(b"", f"hostile {END} text")
    assert with_body(once, "new") == f"{BEGIN}\nnew\n{END}\n".encode()


def test_the_manifest_is_not_written_for_every_one_of_many_shards(tmp_path: Path, settings, commit, monkeypatch):
    written = []
    monkeypatch.setattr(DatasetFolder, "_write", _counting(DatasetFolder._write, written))
    with DatasetFolder.open(tmp_path / "made", settings, versions={}) as folder:
        entries = [ShardEntry(f"round-0000/{number:05d}.arrow", 1, 2, 3, "ab") for number in range(1000)]
        for entry in entries:
            folder.record(0, entry)
        assert len(PreferenceDataset.open(tmp_path / "made").manifest.round(0).shards) > 980
        assert folder.entries(0) == tuple(entries)
    assert len(written) < 300


def test_shards_that_wait_to_be_entered_are_adopted_after_a_kill(tmp_path: Path, settings, commit, monkeypatch):
    monkeypatch.setattr(folders, "WAITING_SHARE", 1)
    folder = DatasetFolder.open(tmp_path / "made", settings, versions={})
    for number in range(4):
        commit(folder, number)
    assert len(PreferenceDataset.open(tmp_path / "made").manifest.round(0).shards) == 3
    folder.close()
    with DatasetFolder.open(tmp_path / "made", settings, versions={}) as again:
        assert again.done(0) == {0, 1, 2, 3}
        assert len(again.entries(0)) == 4


def _counting(write, written: list[int]):
    def counted(folder: DatasetFolder, manifest) -> None:
        written.append(1)
        write(folder, manifest)

    return counted
