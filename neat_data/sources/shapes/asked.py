"""What a row asks, from its parts: the prompt with its input below it, the query, and a side's whole dialogue."""

from __future__ import annotations

from typing import Any

from neat_data.record import Messages
from neat_data.sources.row import Unusable
from neat_data.sources.shapes import chat, sides
from neat_data.sources.shapes.columns import Parts


def prompt(parts: Parts) -> Any:
    """The prompt as it stands, with its input below it where there is one."""
    given, below = parts.get("prompt"), parts.get("input")
    if below is None or (isinstance(below, str) and not below.strip()):
        return given
    below = chat.text(below, parts.place("input"))
    if not sides.is_plain(given, parts.place("prompt")):
        raise Unusable("has_context", f"`{parts.place('input')}` beside turns: below which of them it goes is not said")
    text = chat.text(given, parts.place("prompt"))
    return f"{text}\n{below}" if text.strip() else below


def query(parts: Parts) -> Messages:
    """The messages of the prompt."""
    return sides.query(prompt(parts), parts.place("prompt"))


def dialogue(parts: Parts, word: str) -> Messages:
    """The dialogue that ends in the answer under `word`, which holds its query itself where there is no prompt."""
    side, place = parts.get(word), parts.place(word)
    if "prompt" not in parts.values:
        return sides.whole(side, place)
    return sides.prompted(prompt(parts), side, place, parts.place("prompt"))
