"""The values that stand in columns. Scores and labels are read strictly: what is not plainly one is refused, never
guessed. `plain` makes any value fit for JSON."""

from __future__ import annotations

import math
import re
from typing import Any

from neat_data.sources.row import Unusable

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_VERDICTS = {"true": True, "1": True, "false": False, "0": False}


def number(value: Any, where: str) -> float:
    """A finite number, or text that is one from end to end (`"1"` is 1, `"1/10"` and `"10 or so"` are refused)."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) and value.isascii():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise Unusable("bad_score", f"`{where}` holds {str(value)[:40]!r}")
    return float(value)


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def verdict(value: Any, where: str) -> bool:
    """true or false, 1 or 0, or the same as text (a CSV cell)."""
    key = str(value).strip().casefold()
    if isinstance(value, float) or key not in _VERDICTS:
        raise Unusable("bad_label", f"`{where}` holds {str(value)[:40]!r}")
    return _VERDICTS[key]


def index(value: Any, where: str, length: int) -> int:
    """An index below `length`, as a whole number or as text (a CSV cell)."""
    key = str(value).strip()
    if isinstance(value, bool | float) or not (key.isascii() and key.isdigit()) or int(key[:9]) >= length:
        raise Unusable("bad_label", f"`{where}` holds {str(value)[:40]!r}")
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
