"""A prompt and one side of a row -> the whole dialogue, for every way the two are spelt.

Prompts are plain text (one user turn), text with role tags (`tags`), text that a template rendered (`templated`), or
message lists; sides are text, one message, or message lists that may hold the prompt again. Message lists may stand in
a cell as text.
"""

from __future__ import annotations

from typing import Any

from neat_data.record import Message, Messages
from neat_data.sources.row import Columns, Unusable
from neat_data.sources.shapes import chat, tags, templated


def whole(side: Any, column: str) -> Messages:
    """The dialogue of a side that holds its query too."""
    side = chat.from_cell(side, column)
    if isinstance(side, list):
        return chat.messages(side, column)
    text = chat.text(side, column)
    turns = _dialogue(text, column)
    if turns is None:
        raise Unusable("no_response_turn", f"`{column}` has no turns (\\n\\nHuman:, \\n\\nAssistant:) and no prompt")
    return turns


def is_whole(side: Any, column: str) -> bool:
    """Whether a side holds its query too: messages or text of which the first turn is not the answer's."""
    side = chat.from_cell(side, column)
    if isinstance(side, str):
        return side.startswith(("\n\nHuman:", "Human:")) and "\n\nAssistant:" in side
    return isinstance(side, list) and bool(side) and chat.is_message(side[0]) and _role(side[0]) != "assistant"


def is_plain(prompt: Any, column: str) -> bool:
    """Whether a prompt is no dialogue: neither messages nor a text of turns."""
    prompt = chat.from_cell(prompt, column)
    return not isinstance(prompt, list | str) or (isinstance(prompt, str) and _dialogue(prompt, column) is None)


def _role(message: Columns) -> str | None:
    return chat.role_of(message.get("role", message.get("from")))


def ends_answered(messages: list[Any]) -> bool:
    """Whether a message list ends in an answer."""
    return bool(messages) and chat.is_message(messages[-1]) and _role(messages[-1]) == "assistant"


def prompted(prompt: Any, side: Any, column: str, prompt_column: str = "prompt") -> Messages:
    """The dialogue of a prompt and a side that answers it."""
    prompt, side = chat.from_cell(prompt, prompt_column), chat.from_cell(side, column)
    if not isinstance(prompt, str):
        return _after_messages(chat.messages(prompt, prompt_column), _turns(side, column), column)
    if not isinstance(side, str):
        return _beside_text(prompt, _turns(side, column), column, prompt_column)
    return _two_texts(prompt, side, column, prompt_column)


def query(prompt: Any, column: str = "prompt") -> Messages:
    """The messages of a prompt alone."""
    prompt = chat.from_cell(prompt, column)
    if not isinstance(prompt, str):
        return chat.messages(prompt, column)
    turns = _dialogue(prompt, column)
    if turns is None:
        return (Message("user", prompt.strip()),)
    opened = turns and turns[-1] == Message("assistant", "")
    return turns[:-1] if opened else turns


def _dialogue(text: str, column: str) -> Messages | None:
    """The turns of a text; None for plain text."""
    if template := templated.template_of(text):
        return templated.turns(text, template, column)
    scheme = tags.scheme_of(text)
    return scheme.turns(text) if scheme else None


def _two_texts(prompt: str, side: str, column: str, prompt_column: str) -> Messages:
    if templated.template_of(prompt):
        if side.strip().startswith(prompt.strip()):
            return whole(side, column)
        return (*query(prompt, prompt_column), Message("assistant", templated.without_end(side)))
    scheme = tags.scheme_of(prompt)
    if side.startswith("\n\nHuman:") or (scheme and side.strip().startswith(prompt.strip())):
        return _beside_text(prompt, (scheme or tags.HH).turns(side), column, prompt_column)
    if scheme:  # read by the prompt's scheme, so that further turns inside a response show as another query
        return (*query(prompt, prompt_column), *scheme.answer(side))
    repeated = tags.scheme_of(side) if side.strip().lower().startswith(("human:", "user:", "#")) else None
    if repeated and Message("user", prompt.strip()) in (turns := repeated.turns(side)):
        return turns
    return Message("user", prompt.strip()), Message("assistant", side.strip())


def _turns(side: Any, column: str) -> Messages:
    if isinstance(side, dict):
        return (chat.message(side, column),)
    if isinstance(side, list):
        return chat.messages(side, column)
    return (Message("assistant", chat.text(side, column).strip()),)


def _after_messages(prompt: Messages, turns: Messages, column: str) -> Messages:
    """`turns` as they are where they hold the prompt, with or without a system turn before it; else behind it."""
    system = prompt[:1] if prompt and prompt[0].role == "system" else ()
    asked = prompt[len(system) :]
    if asked and turns[: len(asked)] == asked:
        return (*system, *turns)
    if asked and turns[1 : len(asked) + 1] == asked and turns[0].role == "system" and system in ((), turns[:1]):
        return turns
    if turns and turns[0].role != "assistant":
        raise Unusable("queries_differ", f"`{column}` begins with another query than the prompt")
    if asked and asked[-1].role == "assistant" and turns and turns[0].content.startswith(asked[-1].content):
        return (*prompt[:-1], *turns)  # a begun answer, which the side holds again
    return prompt + turns


def _beside_text(prompt: str, turns: Messages, column: str, prompt_column: str) -> Messages:
    """`turns` as they are where they hold the query, which must then contain the prompt; else behind it."""
    if not turns or turns[0].role == "assistant":
        return query(prompt, prompt_column) + turns
    whole_query = turns[:-1]
    asked = query(prompt, prompt_column)
    if asked != whole_query and prompt.strip() not in [m.content for m in whole_query if m.role == "user"]:
        raise Unusable("queries_differ", f"`{prompt_column}` is no user turn of `{column}`")
    return turns
