"""What lies inside a folder that others may have made, and inside whose dataset a path would lie.

A dataset's own files are regular files in regular folders. A symbolic link reaches out of it, and a pipe under a
shard's name would be waited for without end: neither is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from neat_data.errors import InputError

_OF_A_DATASET = ("round-0000", ".plan")


def links(root: Path) -> Iterator[str]:
    """Names of the symbolic links below `root`, relative to it, sorted; no link is followed to find them."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            if path.is_symlink():
                yield path.relative_to(root).as_posix()


def refuse_links(root: Path) -> None:
    """Raise InputError where a symbolic link lies below `root`, which is to be written to."""
    if name := next(links(root), None):
        raise InputError(f"{root / name}: {reaches_out(name)}\nRemove it, or copy what it points to into its place.")


def reaches_out(name: str) -> str:
    """What is said of a link."""
    return f"{name} is a symbolic link; links inside a dataset are not followed."


def regular_file(root: Path, name: str) -> Path | None:
    """The file `name` below `root`; None where there is none, or something else than a file.

    Raises:
        InputError: a symbolic link on the way to it.
    """
    path = root
    for part in Path(name).parts:
        path /= part
        if path.is_symlink():
            raise InputError(f"{path}: {reaches_out(name)}")
    return path if path.is_file() else None


def require_utf8(path: Path) -> None:
    """Raise InputError where a path cannot be written down, which Arrow and every JSON file of ours ask for."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: this name is not UTF-8.\nRename the file or folder, and give its new name."
        ) from error


def refuse_inside_dataset(path: Path) -> None:
    """Raise InputError where `path`, which is to be written to, lies below a dataset's folder."""
    place = Path(os.path.abspath(path))
    for folder in (*place.parents, *place.resolve().parents):
        if any((folder / name).is_dir() for name in _OF_A_DATASET):
            raise InputError(
                f"{path}: lies in the dataset {folder}, whose files are not written over.\n"
                "Choose a place outside of it."
            )
