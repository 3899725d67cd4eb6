"""The folder of an experiment: which rows and settings it belongs to, and who may write to it.

A job is not run again where its commands are the same. They name the files of rows, not what these hold, so that is
written down in `experiment.json` before anything else and compared by whoever goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.store.claim import claimed as held
from neat_data.store.claim import differences, in_words, put, read

EXPERIMENT, ROWS = "experiment.json", "rows"


@contextmanager
def claimed(out: Path, rows: Mapping[str, str], settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder `out` for the experiment on these rows, which are written under `out`/rows.

    A folder from before there was an experiment.json is taken where its rows are these.

    Args:
        rows: text of each file, by its path under `out`/rows.
        settings: what else no job's command tells.

    Raises:
        InputError: another process holds it, or it holds another experiment.
    """
    hashes = {name: _hash(text.encode()) for name, text in rows.items()}
    with held(out):
        known = _known(out, {"settings": dict(settings), "rows": hashes})
        changed = differences(known["settings"], dict(settings))
        changed += [f"other {ROWS}/{name}" for name in sorted(hashes) if known["rows"].get(name) != hashes[name]]
        if changed:
            raise InputError(
                f"--out {out}: holds another experiment ({in_words(changed)}); go on with what it was begun with, or "
                "give another --out"
            )
        put(out / EXPERIMENT, {"settings": settings, "rows": hashes}, indent=1)
        write_rows(rows, out / ROWS)
        yield


def write_rows(rows: Mapping[str, str], folder: Path) -> None:
    """Write each text to its path under `folder`."""
    for name, text in rows.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _known(out: Path, new: dict[str, Any]) -> dict[str, Any]:
    """What the folder says of its experiment; `new` where it says nothing."""
    if (known := read(out / EXPERIMENT)) is not None:
        return known
    if not (folder := out / ROWS).is_dir():
        return new
    rows = {name: _hash((folder / name).read_bytes()) for name in new["rows"] if (folder / name).is_file()}
    return {**new, "rows": rows}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
