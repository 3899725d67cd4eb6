"""The values that stand in columns. Scores and labels are read strictly: what is not plainly one is refused, never
guessed. `plain` makes any value fit for JSON."""

from __future__ import annotations

import math
import re
from typing import Any

from neat_data.sources.row import Unusable

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_FLOAT32_MAXIMUM = 3.4028234663852886e38  # rewards are stored as float32
_GOOD = ("true", "1", "1.0", "desirable")
_BAD = ("false", "0", "0.0", "-1", "-1.0", "undesirable")


def number(value: Any, where: str) -> float:
    """A number that float32 holds, or text that is one from end to end (`"1"` is 1, `"1/10"` is refused)."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) and value.isascii():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise Unusable("bad_score", f"`{where}` holds {str(value)[:40]!r}")
    return float(value)


def _finite(value: int | float) -> bool:
    return abs(value) <= _FLOAT32_MAXIMUM  # false for NaN


def verdict(value: Any, where: str) -> bool:
    """true or false, 1 or 0, 1 or -1, desirable or undesirable, or the same as text (a CSV cell)."""
    key = str(value).strip().casefold()
    if key not in (*_GOOD, *_BAD):
        raise bad_label(value, where)
    return key in _GOOD


def bad_label(value: Any, where: str) -> Unusable:
    """What to raise where a label cannot be read."""
    return Unusable("bad_label", f"`{where}` holds {str(value)[:40]!r}")


def index(value: Any, where: str, length: int) -> int:
    """An index below `length`, as a whole number or as text (a CSV cell)."""
    key = str(value).strip()
    if isinstance(value, bool | float) or not (key.isascii() and key.isdigit()) or int(key[:9]) >= length:
        raise bad_label(value, where)
    return int(key)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers that JSON lacks become null, dates and bytes become text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else str(value)
