"""A source's name -> its data files: a local file, folder or glob first, else a dataset of the hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neat_data.errors import InputError
from neat_data.sources.files.read import is_data_file
from neat_data.store.inside import require_utf8

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
# The hub's own name for a shard says its split in full.
_SHARD = re.compile(r"(?:^|/)data/([\w.]+)-\d{5}-of-\d{5}[^/]*$")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to read: `name` is what its rows' places say, `key` names it inside the source (posix)."""

    path: Path
    name: str
    key: str
    subset: str | None
    split: str | None


def split_of(name: str) -> str | None:
    """The split that a file's path names as a word, the file's own name first, as `datasets` guesses it.

    >>> [split_of(name) for name in ("helpful-base/train.jsonl", "latest.json", "data/test_sft-00000-of-00001.parquet")]
    ['train', None, 'test_sft']
    """
    if shard := _SHARD.search(name):
        return shard[1]
    for part in reversed(PurePosixPath(name).parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return None


def local(spec: str, subset: str | None, split: str | None) -> list[DataFile] | None:
    """The files of a local path or glob, in the order of their names; None where nothing local is meant.

    Raises:
        InputError: the path is local but holds nothing to read, or not what `subset` and `split` ask for.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        paths = [p for p in sorted(path.rglob("*")) if p.is_file() and is_data_file(_key(p, path))]
        if not paths:
            raise InputError(f"{spec}: the folder holds no data file (JSON Lines, JSON, CSV, Parquet or Arrow)")
        files = [_data_file(p, path) for p in paths]
        return choose_split(choose_subset(files, subset, spec), split or "train", spec)
    if path.is_file():
        files = [_data_file(path, path.parent)]
    elif matches := sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()):
        root = _fixed_part(path)
        files = [_data_file(p, root) for p in matches]
    elif _looks_local(spec):
        raise InputError(f"{spec}: no such file or folder")
    else:
        return None
    files = choose_subset(files, subset, spec)
    return choose_split(files, split, spec) if split else files


def _key(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _data_file(path: Path, root: Path) -> DataFile:
    key = _key(path, root)
    require_utf8(path)  # every row says which file it came from
    return DataFile(path, key, key, subset_of(key), split_of(key))


def subset_of(key: str) -> str | None:
    """The file's folder inside the source, less `data` and parts that name a split; None where nothing is left.

    >>> [subset_of(key) for key in ("helpful-base/train.jsonl", "data/train.parquet", "train/data.arrow")]
    ['helpful-base', None, None]
    """
    parts = PurePosixPath(key).parent.parts
    return "/".join(part for part in parts if part != "data" and part.lower() not in _SPLIT_WORDS) or None


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part of a glob that is a pattern."""
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])


def _looks_local(spec: str) -> bool:
    """Whether a name that is not there was meant as a path: `/x`, `./x`, `a/b/c`, `x.jsonl`, `*.json`."""
    return (
        spec.startswith(("/", ".", "~"))
        or spec.partition("@")[0].count("/") > 1
        or glob.has_magic(spec)
        or is_data_file(spec)
    )


def choose_subset(files: Sequence[DataFile], subset: str | None, spec: str) -> list[DataFile]:
    """The files of `subset` (all where it is None); InputError lists those that exist."""
    chosen = [f for f in files if subset in (None, f.subset)]
    if not chosen:
        known = sorted({f.subset for f in files if f.subset})
        raise InputError(f"{spec}: no subset {subset!r}; it has {', '.join(known) or 'none'}")
    return chosen


def choose_split(files: Sequence[DataFile], split: str, spec: str) -> list[DataFile]:
    """The files of `split` (`all`: every one), those without a mark counting as train; InputError lists what exists."""
    chosen = [f for f in files if split in ("all", f.split or "train")]
    if not chosen:
        known = sorted({f.split or "train" for f in files})
        advice = "Ask for another: {split} " + " or ".join([*known, "all"])
        raise InputError(f"{spec}: no split {split!r}.", advice=advice)
    return chosen
