"""A dataset of the run's own: what it began with shares its bytes with the dataset it came from, what it adds does not.

Shards and rejects never change, so they are hard links (copies on another disk). What may change is copied: manifest,
card and reviews. Every verb of `neat-data` works on it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from neat_data.errors import InputError
from neat_data.store.atomic import TEMPORARY, full_disk_explained
from neat_data.store.dataset import PreferenceDataset

_UNFINISHED = ".dataset-unfinished"


def make_view(base: PreferenceDataset, place: Path) -> None:
    """Make `place` a dataset that equals `base`; nothing where it is there already. It appears whole or not at all.

    Raises:
        InputError: the dataset lies at a URL, or is not finished.
    """
    if place.exists():
        return
    root = Path(base.path)
    if not root.is_dir():
        raise InputError(f"{base.path}: online rounds grow a local dataset. Download the folder, and train on that.")
    if not base.complete:
        raise InputError(f"{base.path}: is not finished. Run the command that was making it again, then train.")
    unfinished = place.with_name(_UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    with full_disk_explained(place):
        for name in _files(root):
            target = unfinished / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _share(root / name, target) if _constant(name) else shutil.copyfile(root / name, target)
        os.replace(unfinished, place)


def _files(root: Path) -> Iterator[Path]:
    """The dataset's files by their names; hidden ones belong to a writer."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and not path.name.endswith(TEMPORARY):
            yield name


def _constant(name: Path) -> bool:
    return name.suffix == ".arrow" or name.parts[0] == "rejects"


def _share(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(source, target)
