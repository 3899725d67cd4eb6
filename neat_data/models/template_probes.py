"""What a chat template does to turns, found by rendering dialogues of words that occur nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from neat_data.record import Message, Messages
from neat_data.thought import CHANNEL, MARKS

USER, ANSWER = "Knock knock.", "Whoisthere"
_SYSTEM, _THOUGHT = "Staypolite", "Whocouldthatbe"
_LATER_USER, _LATER_ANSWER = "Nobodyelse", "Comeonin"
QUERY: Messages = (Message("user", USER),)
FINISHED: Messages = (*QUERY, Message("assistant", ANSWER))
THINKING: Messages = (*QUERY, Message("assistant", f"<think>\n{_THOUGHT}\n</think>\n\n{ANSWER}"))
LONGER: Messages = (*FINISHED, Message("user", _LATER_USER), Message("assistant", _LATER_ANSWER))


class Render(Protocol):
    """`ChatTemplate.text`: the dialogue's text, raising TemplateRefused where the template does."""

    def __call__(self, messages: Messages, *, ask: bool = False) -> str: ...


def unasked_header(render: Render, special_tokens: Sequence[str]) -> str:
    """The header that the template appends to a finished dialogue without being asked, or nothing.

    Such a template renders a query alike whether asked for the header or not, and the answer's text follows
    right behind. What ends the finished dialogue is then an end of turn and that header; the first
    special token closes the turn. White space alone is no header.
    """
    finished = render(FINISHED)
    before, marker, tail = finished.rpartition(ANSWER)
    asked = render(QUERY, ask=True)
    if not marker or asked != render(QUERY) or not finished.startswith(asked + ANSWER):
        return ""
    ends = [tail.index(token) + len(token) for token in special_tokens if token in tail]
    header = tail[min(ends, default=0) :]
    return header if header.strip() and before.endswith(header) else ""


def thought_header(render: Render) -> str:
    """What the header that asks for an answer ends in where it opens a thought, or opens and closes one, or nothing."""
    asked = render(QUERY, ask=True)
    for opens, closes in MARKS:
        opens, closes = re.escape(opens), re.escape(closes)
        tail = re.search(rf"({opens}\s*({closes}\s*)?|{closes}\s*)$", asked)
        if tail:
            return tail.group()
    return ""


def lost_roles(render: Render, refused: type[Exception]) -> tuple[str, ...]:
    """The roles of user and assistant whose words do not come out, in a finished dialogue or in one that asks.

    Args:
        refused: what `render` raises; a template may refuse dialogues of several turns.
    """
    texts = [(FINISHED, render(FINISHED)), (QUERY, render(QUERY, ask=True))]
    with suppress(refused):
        texts += [(LONGER, render(LONGER)), (LONGER[:3], render(LONGER[:3], ask=True))]
    lost = {message.role for messages, text in texts for message in messages if _is_lost(message, text)}
    return tuple(role for role in ("user", "assistant") if role in lost)


def _is_lost(message: Message, text: str) -> bool:
    """Words that come out inside a list of parts, as Python or JSON spells it, are no words of the turn."""
    return message.content not in text or any(f"{quote}{message.content}{quote}" in text for quote in "'\"")


def loses_system(render: Render, refused: type[Exception], *, ask: bool) -> bool:
    """Whether a system turn's words do not come out, in a dialogue that asks or in a finished one."""
    messages = (Message("system", _SYSTEM), *(QUERY if ask else FINISHED))
    return not _says(lambda: render(messages, ask=ask), _SYSTEM, refused)


def loses_thought(render: Render, refused: type[Exception]) -> bool:
    """Whether what a finished answer thinks does not come out."""
    return not _says(lambda: render(THINKING), _THOUGHT, refused)


def writes_a_thought(text: str) -> bool:
    """Whether the thought of `THINKING` stands in its text, in its channel where there are any, and no other one."""
    if CHANNEL in text:
        return f"<|message|>{_THOUGHT}<|end|>" in text
    return _THOUGHT in text and text.count("</think>") == 1


def _says(text: Callable[[], str], word: str, refused: type[Exception]) -> bool:
    """A dialogue that is refused loses nothing: its row is."""
    try:
        return word in text()
    except refused:
        return True
