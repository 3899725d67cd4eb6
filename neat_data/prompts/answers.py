"""How the answer of a judge is read, a score or a verdict: forgiving in its form, and never guessing what it says.

What a model thought comes before its answer and is none of it. The last line of what is left decides; case, emphasis,
space and a full stop do not count there. Where another line states something else, nothing was stated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

Meaning = TypeVar("Meaning")
_THOUGHT = re.compile(r"(?is).*</(?:think|thinking|reasoning)>")
_THINKS = re.compile(r"(?i)<(?:think|thinking|reasoning)>")
# Marks of emphasis, where they stand at the edge of a word: inside one they may be a part of it.
_EMPHASIS = re.compile(r"(?<!\w)[*_`]+|[*_`]+(?!\w)")
_SCORE = re.compile(r"score ?: ?(0|-?[1-9][0-9]{0,8})(?:\.0+)?(?: ?(?:/|out of) ?([0-9]{1,9}))?")


def stated(answer: str, meaning: Callable[[str], Meaning | None]) -> Meaning | None:
    """What the last line of `answer` means; None where it means nothing, or where another line means something else.

    Args:
        meaning: of a line as `plain` makes it.
    """
    rest = _THOUGHT.sub("", answer, count=1)
    if _THINKS.search(rest):
        return None  # a thought that does not end is no answer
    means = [meaning(line) for line in map(plain, rest.splitlines()) if line]
    said = {value for value in means if value is not None}
    return means[-1] if len(said) == 1 else None


def plain(line: str) -> str:
    """A line without what does not count.

    >>> plain(" **Verdict:** Win. ")
    'verdict: win'
    """
    return " ".join(_EMPHASIS.sub("", line).split()).rstrip(".").rstrip().casefold()


def score(answer: str, low: int, high: int) -> int | None:
    """The whole number of the scale that `answer` states as its score.

    >>> said = ["Score: 7", "Score: 7.", "**Score: 7**", "Score: 7/10", "<think>Or 2?</think>Kind.\\nScore: 7"]
    >>> [score(answer, 1, 10) for answer in said]
    [7, 7, 7, 7, 7]
    >>> [score(answer, 1, 10) for answer in ("Score: 7 or 8", "Score: 7/20", "Score: 7.5", "7", "Score: 7\\nScore: 8")]
    [None, None, None, None, None]
    """

    def meaning(line: str) -> int | None:
        match = _SCORE.fullmatch(line)
        return None if match is None or match[2] not in (None, str(high)) else int(match[1])

    value = stated(answer, meaning)
    return value if value is not None and low <= value <= high else None
