"""Writing a file so that it has its name only when it is whole, and holding a folder against a second writer.

A file is written under a temporary name beside its place, flushed to the disk and renamed; an exception or a kill at
any point publishes nothing. What a killed writer leaves behind ends in `TEMPORARY`; `remove_leftovers` deletes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from neat_data.errors import InputError, NeatError, RunError

TEMPORARY = ".neat-tmp"
LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of safetensors, tokenizers and torch.save, which give no errno.
_FULL_SAID = ("no space left", "quota exceeded", "file too large", "pytorchstreamwriter failed", "unexpected pos")


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Make `path` hold what `write` writes into the binary file it is given, whole or not at all.

    Raises:
        RunError: the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    with full_disk_explained(path):
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_if_absent(path: Path, content: bytes) -> None:
    """Make `path` hold `content`, whole, unless there is such a file already, whoever wrote it at the same time.

    Raises:
        RunError: the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    write_atomically(temporary, lambda file: file.write(content))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_folder(path.parent)


@contextlib.contextmanager
def full_disk_explained(path: Path, stays: str = "What was committed stays") -> Iterator[None]:
    """Turn what is said of a full disk, or a quota that is used up, into a RunError naming `path`.

    Args:
        stays: what there is to go on from.
    """
    try:
        yield
    except NeatError:  # said already, of the very file
        raise
    except Exception as error:  # of any type: tokenizers has none of its own
        if not _is_full(error):
            raise
        raise RunError(
            f"the disk is full: {path} could not be written. {stays};\nfree some space and run the same command again."
        ) from error


def _is_full(error: Exception) -> bool:
    said = str(error).lower()
    return getattr(error, "errno", None) in _FULL or any(words in said for words in _FULL_SAID)


def sync_folder(folder: Path) -> None:
    """A rename survives a power failure only when its folder was flushed too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left under `folder`, files and folders; the caller holds its lock."""
    for place, folders, files in os.walk(folder):
        for name in filter(_is_leftover, files):
            Path(place, name).unlink(missing_ok=True)
        for name in filter(_is_leftover, folders[:]):
            folders.remove(name)
            _remove_folder(Path(place, name))


def _is_leftover(name: str) -> bool:
    return name.startswith(".") and name.endswith(TEMPORARY)


def _remove_folder(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path)


def remove_entry(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        _remove_folder(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold `folder` as its only writer; the end of the process, however it comes, lets go.

    Args:
        shared: hold it together with others who say so, each of whom writes files of its own.

    Raises:
        InputError: another process holds it.
    """
    path = folder / LOCK
    file = _lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        if not shared:  # else it is still the others'; who holds it alone next removes it
            path.unlink(missing_ok=True)
        file.close()


def _lock_file(path: Path) -> BinaryIO:
    """The lock file, opened; a link would be followed out of the folder, and a pipe waited for."""
    file = open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise InputError(f"{path}: is no regular file, and no lock of ours; remove it.")


def _lock(path: Path, kind: int) -> BinaryIO:
    """The lock file, locked; a file object rather than a descriptor, so that none is lost when Ctrl-C comes between."""
    while True:
        with full_disk_explained(path):
            file = _lock_file(path)
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise InputError(
                f"{path.parent}: another process is writing to this folder.",
                advice="Wait for its end, or choose another {out}.",
            ) from error
        # The holder before us removes the file as it leaves: a lock on a removed file holds nobody off.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
