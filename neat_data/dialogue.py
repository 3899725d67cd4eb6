r"""HH text <-> turns.

An HH dialogue is one string in which turns begin with ``\n\nHuman:`` or ``\n\nAssistant:``. `parse` splits it into
`Turn`s that keep every byte, `render` puts them together again, and `messages` gives the stripped chat messages that
the rest of the project works on. Each side of a pair is parsed by itself: cutting one side with the other's prompt, or
trusting that turns alternate, gets real rows wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from neat_data.record import Message, Messages

_TAG = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_TAGS = {role: tag for tag, role in _ROLES.items()}
_OPENINGS = tuple(f"\n\n{tag}:" for tag in _ROLES)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as it stood in the text: what came before its content (`separator`) and the content, unstripped.

    Text before the first tag is a turn of role `system` with an empty separator.
    """

    role: str
    separator: str
    text: str


def parse(dialogue: str) -> list[Turn]:
    r"""Split an HH dialogue into turns; `render(parse(s)) == s` for every string.

    >>> [(t.role, t.text) for t in parse("\n\nHuman: Hi\n\nAssistant: Hello!")]
    [('user', ' Hi'), ('assistant', ' Hello!')]
    """
    tags = list(_TAG.finditer(dialogue))
    first = tags[0].start() if tags else len(dialogue)
    turns = [Turn("system", "", dialogue[:first])] if first else []
    for tag, following in zip_longest(tags, tags[1:]):
        end = following.start() if following else len(dialogue)
        turns.append(Turn(_ROLES[tag[1]], tag[0], dialogue[tag.end() : end]))
    return turns


def render(turns: Sequence[Turn]) -> str:
    """The text that `parse` was given, byte for byte."""
    return "".join(turn.separator + turn.text for turn in turns)


def messages(turns: Sequence[Turn]) -> Messages:
    """Chat messages with surrounding whitespace stripped; a blank preamble is no message."""
    stripped = (Message(turn.role, turn.text.strip()) for turn in turns)
    return tuple(m for m in stripped if m.content or m.role != "system")


def read(dialogue: str) -> Messages:
    """The same as `messages(parse(dialogue))`, several times as fast: sources of millions of rows are read with it."""
    last = max(dialogue.rfind(opening) for opening in _OPENINGS)
    if last < 0:
        return _turns(dialogue)
    tag, _, content = dialogue[last + 2 :].partition(":")
    return (*_turns(dialogue[:last]), Message(_ROLES[tag], content.strip()))


@lru_cache(maxsize=2)  # the two sides of a pair share all turns but the last
def _turns(dialogue: str) -> Messages:
    front, *pieces = _TAG.split(dialogue)  # what stands before the first tag, then tag and content in turns
    turns = [Message(_ROLES[tag], text.strip()) for tag, text in zip(pieces[::2], pieces[1::2], strict=True)]
    return (Message("system", system), *turns) if (system := front.strip()) else tuple(turns)


def hh_text(turns: Sequence[Message]) -> str:
    """Messages in HH's form, each content behind its tag and one space (the form of nearly every HH turn)."""
    return "".join(
        turn.content if turn.role == "system" else f"\n\n{_TAGS[turn.role]}: {turn.content}" for turn in turns
    )
