"""A folder that is held by one writer, belongs to one choice of settings, and is finished once.

What datasets, runs, evaluations, judgements and experiments share: `claimed` makes and holds the folder, `others` says
what somebody else put there, `changes` compares the settings that it was begun with with those that are asked for, and
`put` and `read` keep small JSON files in it. Which files these are, and what is said to whom, each kind of folder says.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.store.atomic import full_disk_explained, locked, remove_leftovers, write_atomically
from neat_data.store.inside import refuse_inside_dataset, require_utf8

_SHOWN = 3  # differences that a message names


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Make `path` and hold it as its only writer; what killed writers left goes, and a folder that stays empty, too.

    Raises:
        InputError: it cannot be made or written to, lies in a dataset, or another process holds it.
        RunError: the disk is full.
    """
    require_utf8(path)
    refuse_inside_dataset(path)
    with ExitStack() as held:
        with _usable(path):
            with full_disk_explained(path):
                path.mkdir(parents=True, exist_ok=True)
            held.callback(_remove_if_empty, path)
            held.enter_context(locked(path))
            remove_leftovers(path)
        yield


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror
        raise InputError(f"{path}: cannot be used as a folder to write to ({why}); give another.") from error


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


def others(path: Path) -> list[str]:
    """What lies in `path` and begins with no dot, sorted; nothing where there is no such folder.

    Raises:
        InputError: it cannot be looked into, or is a file.
    """
    with _usable(path), contextlib.suppress(FileNotFoundError):
        return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    return []


def changes(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Which settings differ, in words for a message; empty where none does."""
    return in_words(differences(stored, asked))


def in_words(changed: Sequence[str]) -> str:
    """The first of these differences, and how many more there are.

    >>> in_words(["a: 1 -> 2", "b: 1 -> 2", "c: 1 -> 2", "d: 1 -> 2"])
    'a: 1 -> 2; b: 1 -> 2; c: 1 -> 2 and 1 more'
    """
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return "; ".join(changed[:_SHOWN]) + more


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Which settings differ, a line each.

    >>> differences({"model": {"dtype": "float32"}, "seed": 1}, {"model": {"dtype": "bfloat16"}, "seed": 1})
    ['model.dtype: "float32" -> "bfloat16"']
    """
    before, after = _flat(old), _flat(new)
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key, '(not set)')} -> {after.get(key, '(not set)')}" for key in keys]


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Nested settings as dotted keys with JSON values."""
    if not isinstance(value, Mapping) or not value:
        return {key: canonical_json(value)}
    flat: dict[str, str] = {}
    for name, below in value.items():
        flat |= _flat(below, f"{key}.{name}" if key else name)
    return flat


def version_notes(first: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Lines worth telling the user about packages that are no longer those of the first run."""
    changed = differences(first, now) if first else []
    return [f"version changed since the first run: {line}" for line in changed]


def put(path: Path, content: Mapping[str, Any], *, indent: int = 2, sort_keys: bool = False) -> None:
    """Write a JSON file, whole or not at all; a lone surrogate becomes JSON's own escape for it."""
    text = json.dumps(content, indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def read(path: Path) -> dict[str, Any] | None:
    """What `put` wrote; None where there is no such file.

    Raises:
        InputError: it cannot be read.
    """
    if not path.exists():
        return None
    if not path.is_file():  # a pipe would be waited for without end
        raise InputError(f"{path}: is no regular file; remove it.")
    with readable(path):
        return dict(json.loads(path.read_bytes()))


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Raise InputError where what lies at `path`, or what it names, is not what was to be there."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {str(error)[:200]}); remove the folder, or give another."
        ) from error
