"""Message lists in every spelling the sources use -> chat messages, and whole dialogues -> query and response.

Raises `Unusable` where a value is not what its column promises; nothing is guessed.
"""

from __future__ import annotations

import re
from typing import Any

from neat_data.record import Message, Messages
from neat_data.sources.row import Unusable
from neat_data.sources.shapes import literals

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "ai": "assistant",
}
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value", "text", "parts")
_CALLS = ("tool_calls", "function_call")
# How a text begins that spells a message or a list of them: with a role that is known, or with a content before one.
_ROLE = rf"""['"](?:role|from)['"]\s*:\s*['"](?:{"|".join(_ROLES)})['"]"""
_SPELT = re.compile(
    rf"""\s*\[?\s*\{{\s*(?:{_ROLE}|['"](?:content|value|text)['"]\s*:.*{_ROLE})""", re.DOTALL | re.IGNORECASE
)


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
    """A list of messages (`role`/`content`, `from`/`value`, content as text or as parts); blank systems go."""
    if not isinstance(value, list):
        raise Unusable("not_text", f"`{column}` holds {kind(value)}, not a list of messages")
    parsed = (message(item, f"{column}[{index}]") for index, item in enumerate(value))
    return tuple(m for m in parsed if m.content or m.role != "system")


def message(value: Any, where: str) -> Message:
    """One message, its content stripped."""
    if not isinstance(value, dict):
        raise Unusable("bad_message", f"`{where}` is {kind(value)}")
    role_key, content_key = _first(_ROLE_KEYS, value), _first(_CONTENT_KEYS, value)
    if role_key is None or content_key is None:
        raise Unusable("bad_message", f"`{where}` has neither role and content nor from and value")
    if call := next(filter(value.get, _CALLS), None):
        raise Unusable("has_tools", f"`{where}.{call}`")
    role = role_of(value[role_key])
    if role is None:
        raise Unusable("unknown_role", f"`{where}`: {str(value[role_key])[:40]!r}")
    return Message(role, content(value[content_key], f"{where}.{content_key}").strip())


def _first(keys: tuple[str, ...], value: dict[str, Any]) -> str | None:
    """The first of the keys that an object has."""
    return next(filter(value.__contains__, keys), None)


def role_of(value: Any) -> str | None:
    """`system`, `user` or `assistant` for any known spelling, else None."""
    return _ROLES.get(str(value).strip().casefold())


def is_message(value: Any) -> bool:
    """Whether an object has a role."""
    return isinstance(value, dict) and any(key in value for key in _ROLE_KEYS)


def from_cell(value: Any, column: str) -> Any:
    """The message or messages that a text spells; any other value as it is."""
    if not isinstance(value, str) or not _SPELT.match(value):
        return value
    made = literals.parsed(value)
    if isinstance(made, str):
        raise Unusable("bad_message", f"`{column}` begins as messages do, and is neither JSON nor Python's literals")
    parts = made if isinstance(made, list) else [made]
    roles = [item.get(key) for item in parts if isinstance(item, dict) for key in _ROLE_KEYS if key in item]
    return made if any(role_of(role) for role in roles) else value


def content(value: Any, where: str) -> str:
    """The text of a message's content: itself, or its parts joined."""
    if isinstance(value, list):
        return "".join(_part(part, f"{where}[{index}]") for index, part in enumerate(value))
    return text(value, where)


def _part(part: Any, where: str) -> str:
    """The text of a content part; an image, a tool call or the like makes the row unusable."""
    if not isinstance(part, dict) or part.get("type", "text") != "text":
        label = part.get("type") if isinstance(part, dict) else kind(part)
        raise Unusable("bad_message", f"`{where}` is no text part but {str(label)[:40]!r}")
    if "type" not in part and set(part) != {"text"}:  # Gemini's and Bedrock's parts name their kind by their only key
        raise Unusable("bad_message", f"`{where}` is no text part but holds {', '.join(map(str, part))[:40]!r}")
    return text(part.get("text", part.get("value")), where)


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
