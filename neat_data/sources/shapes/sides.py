"""A prompt and one side of a row -> the whole dialogue, for every way the two are spelt.

Prompts are HH's text, plain text (one user turn) or message lists; sides are text, one message, or message lists that
may hold the prompt again.
"""

from __future__ import annotations

from typing import Any

from neat_data.record import Message, Messages
from neat_data.sources.row import Unusable
from neat_data.sources.shapes import chat

_TAGS = ("\n\nHuman:", "\n\nAssistant:")


def whole(side: Any, column: str) -> Messages:
    """The dialogue of a side that holds its query too."""
    if isinstance(side, list):
        return chat.messages(side, column)
    text = chat.text(side, column)
    if not _has_tags(text):
        raise Unusable("no_response_turn", f"`{column}` has no turns (\\n\\nHuman:, \\n\\nAssistant:) and no prompt")
    return chat.hh(text)


def prompted(prompt: Any, side: Any, column: str) -> Messages:
    """The dialogue of a prompt and a side that answers it."""
    if not isinstance(prompt, str):
        return _after_messages(chat.messages(prompt, "prompt"), _turns(side, column), column)
    if not isinstance(side, str):
        return _beside_text(prompt, _turns(side, column), column)
    if side.startswith("\n\nHuman:"):
        return _beside_text(prompt, chat.hh(side), column)
    if not _has_tags(prompt):
        return Message("user", prompt.strip()), Message("assistant", side.strip())
    # Joined and parsed as one text, so that further turns inside a response show as another query.
    return chat.hh(f"{_opened(prompt)} {side}")


def query(prompt: Any) -> Messages:
    """The messages of a prompt alone."""
    if not isinstance(prompt, str):
        return chat.messages(prompt, "prompt")
    if not _has_tags(prompt):
        return (Message("user", prompt.strip()),)
    return chat.hh(_opened(prompt))[:-1]


def _has_tags(text: str) -> bool:
    return any(tag in text for tag in _TAGS)


def _opened(prompt: str) -> str:
    """HH's text up to and including the tag that the response stands behind."""
    opened = prompt.rstrip()
    return opened if opened.endswith("\n\nAssistant:") else f"{opened}\n\nAssistant:"


def _turns(side: Any, column: str) -> Messages:
    if isinstance(side, dict):
        return (chat.message(side, column),)
    if isinstance(side, list):
        return chat.messages(side, column)
    return (Message("assistant", chat.text(side, column).strip()),)


def _after_messages(prompt: Messages, turns: Messages, column: str) -> Messages:
    if prompt and turns[: len(prompt)] == prompt:
        return turns
    return prompt + _response_turns(turns, column)


def _beside_text(prompt: str, turns: Messages, column: str) -> Messages:
    """`turns` as they are where they hold the query, which must then contain the prompt; else behind it."""
    if not turns or turns[0].role == "assistant":
        return query(prompt) + turns
    whole_query = turns[:-1]
    asked = query(prompt)
    if asked != whole_query and prompt.strip() not in [m.content for m in whole_query if m.role == "user"]:
        raise Unusable("queries_differ", f"`prompt` is no user turn of `{column}`")
    return turns


def _response_turns(turns: Messages, column: str) -> Messages:
    if turns and turns[0].role != "assistant":
        raise Unusable("queries_differ", f"`{column}` begins with another query than the prompt")
    return turns
