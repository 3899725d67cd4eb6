"""Shard numbers as people write them: `0-99`, `7`, `3,17-19`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from neat_data.errors import InputError

_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


@dataclass(frozen=True)
class Numbers:
    """Ranges of numbers, both ends included.

    >>> numbers = Numbers.read("3,17-19")
    >>> numbers.below(19), str(numbers)
    ([3, 17, 18], '3,17-19')
    """

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, text: str) -> Numbers:
        """Raises InputError where it is none."""
        parts = [_PART.fullmatch(part.strip()) for part in text.split(",")]
        ranges = tuple((int(part[1]), int(part[2] or part[1])) for part in parts if part)
        if len(ranges) < len(parts) or any(last < first for first, last in ranges):
            raise InputError("numbers such as 0-99 or 3,17-19", field="shards", value=repr(text))
        return cls(ranges)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Numbers:
        """Of single numbers.

        >>> str(Numbers.of([0, 1, 2, 5]))
        '0-2,5'
        """
        ranges: list[tuple[int, int]] = []
        for number in sorted(numbers):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return cls(tuple(ranges))

    def below(self, end: int) -> list[int]:
        """Every number that is smaller than `end`, once, in order."""
        return sorted({n for first, last in self.ranges for n in range(first, min(last + 1, end))})

    @property
    def shortly(self) -> str:
        """As `str`, its end left out where it is long."""
        text = str(self)
        return text if len(text) < 100 else text[:100].rpartition(",")[0] + ", …"

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)
