"""A file of JSON objects, one a line, that grows while a run lasts and is cut back where the run goes on.

A line is written at once. A kill can leave a torn last line at most: reading passes over it, and `keep` removes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.store.atomic import full_disk_explained, write_atomically


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one object; numbers that are not finite, which JSON does not know, become null.

    Raises:
        RunError: the disk is full.
    """
    with full_disk_explained(path), path.open("ab") as file:
        file.write(_line(row))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every whole line's object; none where there is no such file.

    Raises:
        InputError: a whole line is not a JSON object.
    """
    if not path.exists():
        return []
    *whole, _ = path.read_bytes().split(b"\n")
    return [_object(line, path, number) for number, line in enumerate(whole, start=1)]


def keep(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leave the rows that `wanted` is true for, and no torn line."""
    if path.exists():
        rows = [row for row in read_rows(path) if wanted(row)]
        write_atomically(path, lambda file: file.writelines(map(_line, rows)))


def _line(row: Mapping[str, Any]) -> bytes:
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number}: is not JSON ({error})\nremove that line") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}:{number}: is no JSON object\nremove that line")
    return row
