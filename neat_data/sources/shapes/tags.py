r"""Dialogues in one text whose turns begin with a tag: HH's own form, and what pipelines made of it.

HH's tags are ``\n\nHuman:`` and ``\n\nAssistant:``. Others lose the blank lines at the start, write one newline, CRLF
or a space, `### Human:`, `User:`, capitals or lower case. A text has one scheme; where its tags do not alternate, or
could be read by two schemes, the row is refused. `dialogue` is HH's exact parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from neat_data import dialogue
from neat_data.record import Message, Messages
from neat_data.sources.row import Unusable

_USERS, _ASSISTANTS = ("human", "user"), ("assistant", "ai", "bot")
_START = re.compile(rf"(?P<mark>(?:#{{1,3}} )?)(?P<user>{'|'.join(_USERS)}):", re.IGNORECASE)
_END = re.compile(rf"[ \n](?P<mark>(?:#{{1,3}} )?)(?P<assistant>{'|'.join(_ASSISTANTS)}):$", re.IGNORECASE)
_CASES = (str.title, str.upper, str.lower)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the turns of a text are marked: what stands before a tag, and the tags' words without their colon."""

    separator: str
    user: str
    assistant: str

    def turns(self, text: str) -> Messages:
        """The turns of `text`, a last one that only opens included; Unusable where they are unclear."""
        if text.startswith("\n\nHuman:") and self == HH:
            return dialogue.read(text)
        unix = _unix(text) if _HH_TAG.search(text) is None else text
        if self == HH:
            return dialogue.read(_separated(unix, self))
        messages = self._split(_separated(unix.strip(), self))
        self._check(messages)
        return messages

    def answer(self, text: str) -> Messages:
        """The turns of a response: one, unless it goes on with tags of this scheme."""
        if self == HH:
            return self.turns(f"{self.separator}{self.assistant}: {text}")
        return self._split(f"{self.separator}{self.assistant}: {text}")

    def _split(self, text: str) -> Messages:
        pieces = re.split(
            rf"{self.separator}({re.escape(self.user)}|{re.escape(self.assistant)}):", text
        )  # what stands before the first tag, then tag and content in turns
        front = [Message("system", pieces[0].strip())] if pieces[0].strip() else []
        roles = {self.user: "user", self.assistant: "assistant"}
        turns = [Message(roles[tag], text.strip()) for tag, text in zip(pieces[1::2], pieces[2::2], strict=True)]
        return (*front, *turns)

    def _check(self, turns: Messages) -> None:
        spoken = [turn.role for turn in turns if turn.role != "system"]
        tags = re.compile(rf"\n({re.escape(self.user)}|{re.escape(self.assistant)}):")
        if any(left == right for left, right in pairwise(spoken)) or any(tags.search(turn.content) for turn in turns):
            raise Unusable("unclear_turns", f"the tags {self.user}: and {self.assistant}: do not take turns")


HH = Scheme("\n\n", "Human", "Assistant")
_HH_TAG = re.compile(r"\n\n(Human|Assistant):")


@lru_cache(maxsize=8)  # a row asks several times of the same few texts
def scheme_of(text: str) -> Scheme | None:
    r"""The scheme by which `text` is a dialogue; None for plain text.

    >>> scheme_of("Human: Hi\nAssistant:"), scheme_of("Who is the user: you?")
    (Scheme(separator='\n', user='Human', assistant='Assistant'), None)
    """
    if text.startswith("\n\nHuman:"):
        return HH
    unix = _unix(text)
    stripped = unix.strip()
    start = _START.match(stripped)
    if (start is None or start[0] == "Human:") and _HH_TAG.search(unix):
        return HH
    if start:
        return _begun(stripped, start["mark"], start["user"])
    if end := _END.search(stripped):
        return _opened(stripped, end["mark"], end["assistant"])
    return None


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _separated(text: str, scheme: Scheme) -> str:
    """`text` with the separator that its first tag lost put back."""
    begun = text.lstrip()
    tagged = begun.startswith((f"{scheme.user}:", f"{scheme.assistant}:"))
    return scheme.separator + begun if tagged else text


def _begun(text: str, mark: str, user: str) -> Scheme:
    """The scheme of a text that begins with a user's tag."""
    case = next((case for case in _CASES if case(user) == user), str.title)
    tags = [mark + _cased(word, case) for word in _ASSISTANTS]
    for separator in ("\n\n", "\n"):
        for tag in tags:
            if f"{separator}{tag}:" in text:
                return Scheme(separator, mark + user, tag)
    for tag in tags:
        if f" {tag}:" in text:
            return _on_one_line(text, Scheme(" ", mark + user, tag))
    return Scheme("\n\n", mark + user, tags[0])


def _cased(word: str, case: Callable[[str], str]) -> str:
    return "AI" if word == "ai" and case is str.title else case(word)


def _on_one_line(text: str, scheme: Scheme) -> Scheme:
    # A tag behind a space may as well be the text's own word: only one that opens the answer says what it is.
    if not text.endswith(f" {scheme.assistant}:"):
        raise Unusable("unclear_turns", f"begins with {scheme.user}: and holds {scheme.assistant}: inside a line")
    return scheme


def _opened(text: str, mark: str, assistant: str) -> Scheme | None:
    """The scheme of a text that ends in an open answer and has turns behind something else."""
    case = next((case for case in _CASES if case(assistant) == assistant), str.title)
    users = "|".join(re.escape(mark + case(word)) for word in _USERS)
    for separator in ("\n\n", "\n", " "):
        if match := re.search(rf"{separator}({users}):", text):
            return Scheme(separator, match[1], mark + assistant)
    return None
