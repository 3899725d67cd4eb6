"""Message lists in every spelling the sources use -> chat messages, and whole dialogues -> query and response.

Raises `Unusable` where a value is not what its column promises; nothing is guessed.
"""

from __future__ import annotations

from typing import Any

from neat_data import dialogue
from neat_data.record import Message, Messages
from neat_data.sources.row import Unusable

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


def text(value: Any, column: str) -> str:
    """`value`, if it is text."""
    if not isinstance(value, str):
        raise Unusable("not_text", f"`{column}` holds {kind(value)}")
    return value


def kind(value: Any) -> str:
    """What a JSON value is, in a word for an error."""
    if value is None:
        return "null"
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        ((int, float), "a number"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for types, name in names if isinstance(value, types)), type(value).__name__)


def messages(value: Any, column: str) -> Messages:
    """A list of messages (`role`/`content` or `from`/`value`, content as text or as typed parts); blank systems go."""
    if not isinstance(value, list):
        raise Unusable("not_text", f"`{column}` holds {kind(value)}, not a list of messages")
    parsed = (message(item, f"{column}[{index}]") for index, item in enumerate(value))
    return tuple(m for m in parsed if m.content or m.role != "system")


def message(value: Any, where: str) -> Message:
    """One message, its content stripped."""
    if not isinstance(value, dict):
        raise Unusable("bad_message", f"`{where}` is {kind(value)}")
    role_key, content_key = ("role", "content") if "role" in value else ("from", "value")
    if role_key not in value or content_key not in value:
        raise Unusable("bad_message", f"`{where}` has neither role and content nor from and value")
    role = _ROLES.get(str(value[role_key]).casefold())
    if role is None:
        raise Unusable("unknown_role", f"`{where}`: {str(value[role_key])[:40]!r}")
    return Message(role, _content(value[content_key], f"{where}.{content_key}").strip())


def _content(value: Any, where: str) -> str:
    if isinstance(value, list):
        return "".join(_part(part, f"{where}[{index}]") for index, part in enumerate(value))
    return text(value, where)


def _part(part: Any, where: str) -> str:
    """The text of a typed content part; an image, a tool call or the like makes the row unusable."""
    if not isinstance(part, dict) or part.get("type") != "text":
        found = part.get("type") if isinstance(part, dict) else kind(part)
        raise Unusable("bad_message", f"`{where}` is no text part but {str(found)[:40]!r}")
    return text(part.get("text", part.get("value")), where)


def hh(value: str) -> Messages:
    r"""A dialogue in HH's form (`\n\nHuman:`, `\n\nAssistant:`)."""
    return dialogue.messages(dialogue.parse(value))


def split(whole: Messages, column: str) -> tuple[Messages, str]:
    """The query and the response of a dialogue whose last turn is the response; neither is checked further."""
    if not whole or whole[-1].role != "assistant":
        last = whole[-1].role if whole else "nothing"
        raise Unusable("no_response_turn", f"`{column}` ends in {last}")
    return whole[:-1], whole[-1].content


def check_query(query: Messages, column: str) -> None:
    """Raise unless `query` ends in a user turn that says something."""
    if not query:
        raise Unusable("empty_query", f"`{column}` has no turn before the response")
    if query[-1].role != "user":
        raise Unusable("query_not_user_turn", f"the query in `{column}` ends in {query[-1].role}")
    if not query[-1].content:
        raise Unusable("empty_query", f"the last user turn in `{column}` is blank")
