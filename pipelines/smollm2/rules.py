"""What can be said of an answer without a model: does it refuse, repeat itself, swear, and is it English?

A third opinion beside two reward models of the same kind of rows, which may like the same faults. Word lists and
language identification are those of better-profanity and py3langid (extra `real`); both are coarse, and are to be read
as shares over many answers, never as a verdict on one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from neat_data.errors import InputError
from neat_data.rounds.candidates import REFUSAL

_REFUSAL = re.compile(REFUSAL)
GRAM = 4  # words
REPETITIVE = 0.2  # of the grams, those that stood there before
SHORTEST = 20  # characters of a text whose language can be told


@dataclass(frozen=True, slots=True)
class Rules:
    """What the rules say of a text.

    Attributes:
        empty: nothing but white space.
        refusal: an English opening of a refusal occurs, the pattern that `neat-data expand` counts by.
        repetitive: more than `REPETITIVE` of its sequences of `GRAM` words stood there before.
        profane: a word of the list occurs.
        foreign: taken for another language than English; None where the text is too short to tell.
        words: how many.
    """

    empty: bool
    refusal: bool
    repetitive: bool
    profane: bool
    foreign: bool | None
    words: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def rules_of(text: str) -> Rules:
    """Every rule's verdict.

    Raises:
        InputError: the packages of the extra `real` are not installed.
    """
    return Rules(
        empty=not text.strip(),
        refusal=_REFUSAL.search(text) is not None,
        repetitive=repeated(text.lower().split()) > REPETITIVE,
        profane=_profanity().contains_profanity(text),
        foreign=_language()(text)[0] != "en" if len(text) >= SHORTEST else None,
        words=len(text.split()),
    )


def repeated(words: Sequence[str], gram: int = GRAM) -> float:
    """The share of sequences of `gram` words that stood there before (seq-rep-n of Welleck 2019, arXiv 1908.04319).

    >>> repeated("a b c d a b c d".split())
    0.2
    >>> repeated(["a"])
    0.0
    """
    grams = [tuple(words[start : start + gram]) for start in range(len(words) - gram + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@cache
def _profanity() -> Any:
    try:
        from better_profanity import Profanity
    except ImportError as error:
        raise _missing("better-profanity") from error
    return Profanity()


@cache
def _language() -> Any:
    try:
        from py3langid.langid import classify
    except ImportError as error:
        raise _missing("py3langid") from error
    return classify


def _missing(package: str) -> InputError:
    return InputError(f"the package {package} is not installed; pip install 'neat-align[real]'")
