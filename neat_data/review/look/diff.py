"""Two texts word by word: what only the first has, what only the second has, and what both have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain
from typing import Literal

MAX_WORDS = 20_000  # of both texts together; difflib's time grows with the square
_WORD = re.compile(r"(?:[\w'’]+|[^\w\s])\s*|\s+")  # with the space behind it, which does not count


@dataclass(frozen=True)
class Part:
    """A run of words of one kind."""

    kind: Literal["both", "first", "second"]
    text: str


def differences(first: str, second: str) -> list[Part] | None:
    """The parts in reading order; None where the texts are too long to compare.

    >>> [(part.kind, part.text) for part in differences("I can help.", "I will help.")]
    [('both', 'I '), ('first', 'can '), ('second', 'will '), ('both', 'help.')]
    """
    a, b = _WORD.findall(first), _WORD.findall(second)
    if len(a) + len(b) > MAX_WORDS:
        return None
    matched = SequenceMatcher(None, [word.strip() for word in a], [word.strip() for word in b]).get_opcodes()
    return list(chain.from_iterable(_parts(op, a[i:j], b[k:m]) for op, i, j, k, m in matched))


def _parts(op: str, a: list[str], b: list[str]) -> list[Part]:
    if op == "equal":
        return [Part("both", "".join(b))]
    parts = [Part("first", "".join(a)), Part("second", "".join(b))]
    return [part for part in parts if part.text]
