"""Files that hold queries alone, as benchmarks publish them -> the query; every other column goes to `meta`.

XSTest and Arena-Hard 2 (`prompt`), AlpacaEval (`instruction`), MT-bench and Arena-Hard (`turns`), HarmBench
(`Behavior`), AdvBench and JailbreakBench (`goal`), and message lists that end in a user turn. A row's answers are ().
"""

from __future__ import annotations

from neat_data.record import Message, Messages
from neat_data.sources.row import Columns, Understood, Unusable
from neat_data.sources.shapes import asked, chat, literals, ranked
from neat_data.sources.shapes.columns import Parts


def alone(parts: Parts) -> Understood:
    """A query and nothing else: text, text with turns, or messages."""
    return _alone(asked.query(parts), parts.place("prompt"), parts.rest)


def prompt(parts: Parts) -> Understood:
    """The same, or the user's turns as texts (MT-bench on the hub)."""
    given = parts.get("prompt")
    texts = isinstance(given, list) and bool(given) and isinstance(given[0], str)
    return turns(parts) if texts else alone(parts)


def text(parts: Parts) -> Understood:
    """A query of plain text, whatever stands in it."""
    return _alone((Message("user", _text(parts, "prompt")),), parts.place("prompt"), parts.rest)


def behavior(parts: Parts) -> Understood:
    """`Behavior`, behind its `ContextString` where it has one: joined as HarmBench joins them."""
    behavior, context = _text(parts, "prompt"), _text(parts, "input")
    whole = f"{context}\n\n---\n\n{behavior}" if context and behavior else behavior
    kept = {parts.place("input"): parts.get("input")} if "input" in parts.values else {}
    return _alone((Message("user", whole),), parts.place("prompt"), {**parts.rest, **kept})


def turns(parts: Parts) -> Understood:
    """The first of the user's turns: what follows it depends on the answer, and stays in `meta`."""
    given, place = literals.parsed(parts.get("prompt")), parts.place("prompt")
    if not isinstance(given, list) or not given:
        raise Unusable("empty_query", f"`{place}` holds {chat.kind(given)}")
    first = given[0].get("content") if isinstance(given[0], dict) else given[0]
    kept = {place: given} if len(given) > 1 else {}
    return _alone((Message("user", chat.text(first, f"{place}[0]").strip()),), place, {**parts.rest, **kept})


def instruction(parts: Parts) -> Understood:
    """`instruction` and `input`; an `output` that is text is somebody's answer (AlpacaEval), a list is ranked."""
    if isinstance(parts.get("responses"), list):
        return ranked.best_first(parts)
    kept = {parts.place("responses"): parts.get("responses")} if "responses" in parts.values else {}
    return _alone(asked.query(parts), parts.place("prompt"), {**parts.rest, **kept})


def _text(parts: Parts, word: str) -> str:
    """The text under `word`, stripped; blank where there is none."""
    return chat.text(parts.get(word), parts.place(word)).strip() if parts.given(word) else ""


def _alone(query: Messages, place: str, meta: Columns) -> Understood:
    chat.check_query(query, place)
    return Understood(query, (), meta=meta)
