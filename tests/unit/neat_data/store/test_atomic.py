"""A file is whole or absent, a full disk is said, and a folder has one writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from neat_data.errors import InputError, RunError
from neat_data.record import to_table
from neat_data.store.atomic import TEMPORARY, full_disk_explained, locked, remove_leftovers, write_atomically
from neat_data.store.folder import DatasetFolder

HOLDER = """
import sys, signal
from pathlib import Path
from neat_data.store.atomic import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_the_file_holds_what_was_written(tmp_path: Path):
    write_atomically(tmp_path / "a", lambda file: file.write(b"whole"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"whole"}


def test_an_exception_publishes_nothing_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"old")

    def breaks(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", breaks)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_content_and_folder_are_flushed_before_and_after_the_rename(tmp_path: Path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def kind(descriptor: int) -> str:
        return "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"

    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(f"fsync {kind(fd)}"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_atomically(tmp_path / "a", lambda file: file.write(b"whole"))
    assert calls == ["fsync file", "rename", "fsync folder"]


def test_a_new_file_has_the_permissions_that_the_user_asked_for(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", lambda file: file.write(b""))
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path):
    (tmp_path / "round-0000").mkdir()
    (tmp_path / "round-0000" / f".00000.arrow.12{TEMPORARY}").touch()
    (tmp_path / f".dataset.json.12{TEMPORARY}").touch()
    (tmp_path / ".mine.tmp").touch()
    (tmp_path / f"mine{TEMPORARY}").touch()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [".mine.tmp", f"mine{TEMPORARY}"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # lazy: a mapped shard may still be in memory


def test_a_full_disk_is_said_and_what_was_there_stays(small_disk: Path):
    write_atomically(small_disk / "a", lambda file: file.write(b"old"))
    with pytest.raises(RunError, match=r"disk is full.*What was committed stays.*\n.*same command again"):
        write_atomically(small_disk / "a", lambda file: file.write(bytes(200_000)))
    assert [path.name for path in small_disk.iterdir()] == ["a"]
    assert (small_disk / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save(torch.zeros(50_000), path),
        lambda path: save_file({"weights": np.zeros(50_000)}, path),
        lambda path: Tokenizer(WordLevel({f"word {number}": number for number in range(20_000)})).save(str(path)),
    ],
    ids=["torch", "safetensors", "tokenizers"],
)
def test_what_libraries_say_of_a_full_disk_is_understood(small_disk: Path, write: Callable[[Path], None]):
    path = small_disk / "weights"
    with (
        pytest.raises(RunError, match=r"disk is full: .*weights could not be written\. The old ones stay;"),
        full_disk_explained(path, "The old ones stay"),
    ):
        write(path)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0"),
        Exception("No space left on device (os error 28)"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_what_is_said_of_a_full_disk_is_understood_of_any_type(tmp_path: Path, error: Exception):
    with pytest.raises(RunError, match="the disk is full"), full_disk_explained(tmp_path):
        raise error


def test_nothing_else_is_called_a_full_disk(tmp_path: Path):
    with pytest.raises(RuntimeError, match="something else"), full_disk_explained(tmp_path):
        raise RuntimeError("something else")
    with pytest.raises(InputError, match="no space left for it"), full_disk_explained(tmp_path):
        raise InputError("no space left for it")


def test_a_shard_that_does_not_fit_leaves_the_committed_ones_to_go_on_from(
    small_disk: Path, commit, make_record, settings, write_dataset, files
):
    with DatasetFolder.open(small_disk / "out", settings, versions={"pyarrow": "1"}) as folder:
        commit(folder, 0)
        large = to_table([make_record(row) for row in range(2000)])
        with pytest.raises(RunError, match="disk is full"):
            folder.commit(0, 1, large, [], {})
    assert sorted(files(small_disk / "out")) == ["dataset.json", "round-0000/00000.arrow"]
    write_dataset(small_disk / "out", 2)


def test_two_writers_are_one_too_many(tmp_path: Path):
    with locked(tmp_path), pytest.raises(InputError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_death_of_the_holder_releases_the_lock(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process"), locked(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked(tmp_path):
        pass
