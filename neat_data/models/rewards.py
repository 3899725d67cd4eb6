"""Numbers from outside the project, checked before they become rewards: as many as were asked for, finite, float32.

A callable and a server both answer with whatever they like. `as_rewards` lets through what can be stored and says of
anything else what it was; the caller says who sent it.
"""

from __future__ import annotations

import math
import reprlib
import struct
from typing import Any


class NotRewards(ValueError):
    """What came is not the list of rewards that was asked for; the message says what it was.

    Attributes:
        index: the entry at fault, None where the whole answer is.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


def as_rewards(values: Any, expected: int) -> list[float]:
    """`values` (a list, a tuple, an array or a tensor of one dimension) as finite float32 numbers.

    >>> as_rewards((2, 0.1), 2)
    [2.0, 0.10000000149011612]

    Raises:
        NotRewards: another number of entries, or an entry that is no finite number of float32's range.
    """
    values = _plain(values)
    if not isinstance(values, (list, tuple)):
        raise NotRewards(f"{expected} rewards were asked for and {reprlib.repr(values)} came")
    if len(values) != expected:
        raise NotRewards(f"{expected} rewards were asked for and {len(values)} came")
    return [_number(_plain(value), index) for index, value in enumerate(values)]


def _plain(value: Any) -> Any:
    """Arrays and tensors, whole or as entries of a list, as plain Python."""
    return value.tolist() if hasattr(value, "tolist") else value


def _number(value: Any, index: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotRewards(f"the reward is {reprlib.repr(value)}, not a number", index)
    try:
        (number,) = struct.unpack("<f", struct.pack("<f", value))
    except (OverflowError, struct.error):  # a float too large, an integer too large
        number = math.inf
    if not math.isfinite(number):
        raise NotRewards(f"the reward is {reprlib.repr(value)}, not a finite float32 number", index)
    return number
