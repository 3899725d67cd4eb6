"""A source at a URL -> data files on this disk: a file, a folder or a glob of an object store, or of what fsspec opens.

Files are fetched whole into the cache folder, once for each version of them, and read like local ones under the names
that they have there.
"""

from __future__ import annotations

import glob
import re
from dataclasses import replace
from pathlib import Path

from neat_data.errors import InputError
from neat_data.sources.files.locate import DataFile, choose_split, choose_subset, split_of, subset_of
from neat_data.sources.files.read import is_data_file
from neat_data.store.location import Location, locate


def find(spec: str, subset: str | None, split: str | None) -> tuple[list[DataFile], bool]:
    """The files of a URL, in the order of their names, chosen as those of a local path are; whether it is a folder.

    Raises:
        InputError: nothing is there, or not what `subset` and `split` ask for.
        RunError: the store does not answer.
    """
    place, keys, folder = _found(spec.rstrip("/"))
    if not keys:
        raise InputError(
            f"{spec}: no such file, and no folder with a data file (JSON Lines, JSON, CSV, Parquet or Arrow)"
        )
    described = [DataFile(Path(key), key, key, subset_of(key), split_of(key)) for key in keys]
    chosen = choose_subset(described, subset, spec)
    if split or folder:
        chosen = choose_split(chosen, split or "train", spec)
    return [replace(file, path=_fetched(place, file.key)) for file in chosen], folder


def _found(url: str) -> tuple[Location, list[str], bool]:
    """Where the files of a URL lie, their names there, and whether it names a folder."""
    if glob.has_magic(url):
        return *_matching(url), False
    above, _, name = url.rpartition("/")
    if "://" in above and locate(above).local(name) is not None:
        return locate(above), [name], False
    return locate(url), [key for key in locate(url).names() if is_data_file(key)], True


def _matching(url: str) -> tuple[Location, list[str]]:
    from fsspec.utils import glob_translate

    parts = url.split("/")
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    place, pattern = locate("/".join(parts[:fixed])), re.compile(glob_translate("/".join(parts[fixed:])))
    return place, [key for key in place.names() if pattern.match(key)]


def _fetched(place: Location, key: str) -> Path:
    path = place.local(key)
    if path is None:
        raise InputError(f"{place.where(key)}: was there just now, and is gone")
    return path
