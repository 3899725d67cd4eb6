"""Columns that change what is asked, whatever the shape: a system text, earlier turns, tools, images.

A system text and earlier turns are put before the query. What this project does not read is a reject, so that two rows
that differ only there never become one query; `--ignore COLUMN` leaves such a column in `meta` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neat_data.record import Message, Messages
from neat_data.sources.row import Unusable
from neat_data.sources.shapes import chat, literals, sides
from neat_data.sources.shapes.columns import Parts, value_at

SYSTEM = ("system", "system_prompt", "system_message", "systemPrompt")
HISTORY = ("history",)
_READ = frozenset((*SYSTEM, *HISTORY, "input"))
REFUSED = {
    "tools": "has_tools",
    "functions": "has_tools",
    "image": "has_images",
    "images": "has_images",
    "video": "has_images",
    "videos": "has_images",
    "audio": "has_audio",
    "audios": "has_audio",
    "context": "has_context",
    "documents": "has_context",
}
"""Columns that are refused where anything stands in them, with the reason."""


def places(columns: Mapping[str, Any], taken: Mapping[str, str], ignored: frozenset[str]) -> dict[str, str]:
    """Where system, history and input stand in a row whose shape does not say."""
    if _READ.isdisjoint(columns):
        return {}
    used = {place.split(".")[0] for place in taken.values()} | ignored
    named = {}
    for word, names in (("system", SYSTEM), ("history", HISTORY)):
        there = sorted((name for name in names if name in columns and name not in used), key=lambda n: not columns[n])
        name = next(iter(there), None)  # of several the first that holds something
        if word not in taken and name is not None:
            named[word] = name
    if "input" not in taken and "input" not in used and _says_more(columns, taken):
        named["input"] = "input"
    return named


def _says_more(row: Mapping[str, Any], taken: Mapping[str, str]) -> bool:
    """Whether a column `input` holds a text that belongs below the prompt: one that is not asked anyway."""
    below = row.get("input")
    if not isinstance(below, str) or not below.strip() or "prompt" not in taken:
        return False
    prompt = value_at(row, taken["prompt"])
    if any(below.strip() in text for text in _texts(prompt)):
        return False
    held = (value_at(row, taken[word]) for word in ("chosen", "completion", "response_a") if word in taken)
    return not any(sides.is_whole(side, "") for side in held)


def _texts(prompt: Any) -> list[str]:
    """What a prompt says: itself, or its messages."""
    turns = prompt if isinstance(prompt, list) else [prompt]
    said = (turn.get("content", turn.get("value")) if isinstance(turn, dict) else turn for turn in turns)
    return [text for text in said if isinstance(text, str)]


def refuse(parts: Parts, ignored: frozenset[str]) -> None:
    """Raise Unusable where one of the columns left over, or of those that the query lay in, changes what is asked."""
    if not parts.rest:
        return
    within = {place.partition(".")[0] for place in parts.places.values()}
    inner = [parts.rest[column] for column in within if isinstance(parts.rest.get(column), dict)]
    for columns in (parts.rest, *inner):
        for column, value in columns.items():
            reason = REFUSED.get(column)
            if reason and column not in ignored and not _nothing(value):
                raise Unusable(reason, f"`{column}`")


def _nothing(value: Any) -> bool:
    """Whether a column of tools, images or the like holds none."""
    value = literals.parsed(value)
    if isinstance(value, str):
        return value.strip().casefold() in ("", "null", "none")
    if isinstance(value, list):
        return all(_nothing(item) for item in value)
    return not value


def before(parts: Parts, query: Messages) -> Messages:
    """The query behind the row's system text and earlier turns, where it does not hold them already."""
    if not parts.given("system") and not parts.given("history"):
        return query
    earlier = _history(parts.get("history"), parts.place("history"))
    front = query[:1] if query and query[0].role == "system" else ()
    turns = query[len(front) :]
    if turns[: len(earlier)] != earlier:
        query = (*front, *earlier, *turns)
    return _behind_system(_system(parts.get("system"), parts.place("system")), query, parts.place("system"))


def _behind_system(system: str, query: Messages, place: str) -> Messages:
    if not system:
        return query
    if not query or query[0].role != "system":
        return (Message("system", system), *query)
    if query[0].content != system:
        raise Unusable("queries_differ", f"`{place}` says otherwise than the system turn of the dialogue")
    return query


def _system(value: Any, place: str) -> str:
    """A system text: plain, a message, or a list of parts."""
    value = literals.parsed(value) if isinstance(value, str) and value.strip().startswith(("[{", "{")) else value
    if value is None:
        return ""
    if isinstance(value, dict):
        value = next((value[key] for key in ("content", "parts", "text", "value") if key in value), value)
    return chat.content(value, place).strip()


def _history(value: Any, place: str) -> Messages:
    """Earlier exchanges: pairs of the user's and the assistant's text, or messages."""
    value = literals.parsed(value)
    if not isinstance(value, list | None):
        if isinstance(value, str) and not value.strip():
            return ()
        raise Unusable("bad_message", f"`{place}` holds {chat.kind(value)}")
    if value and chat.is_message(value[0]):
        return chat.messages(value, place)
    turns: list[Message] = []
    for turn, exchange in enumerate(value or ()):
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise Unusable("bad_message", f"`{place}[{turn}]` is no pair of texts")
        asked, answered = (chat.text(item, f"{place}[{turn}]").strip() for item in exchange)
        turns += [Message("user", asked), Message("assistant", answered)]
    return tuple(turns)
