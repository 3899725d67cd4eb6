"""Rows with one response: with a verdict on it, with a score, or with neither."""

from __future__ import annotations

from neat_data.record import Messages
from neat_data.sources.row import SourceAnswer, Understood, Unusable
from neat_data.sources.shapes import asked, chat
from neat_data.sources.shapes.columns import Parts
from neat_data.sources.shapes.values import number, verdict


def judged(parts: Parts) -> Understood:
    """`completion` to a `prompt`, or a whole dialogue; `label` says whether it is good."""
    query, response = _one(parts)
    said = verdict(parts.get("label"), parts.place("label"))
    return Understood(query, (SourceAnswer(response),), (0,), said, parts.rest)


def scored(parts: Parts) -> Understood:
    """The same with a `score`: alone it says nothing, beside other rows of the query it orders."""
    query, response = _one(parts)
    score = number(parts.get("score"), parts.place("score"))
    return Understood(query, (SourceAnswer(response, score),), meta=parts.rest)


def answered(parts: Parts) -> Understood:
    """The same without either: somebody's answer, for `expand --responses`."""
    query, response = _one(parts)
    model = parts.get("model")
    return Understood(
        query, (SourceAnswer(response, None, model if isinstance(model, str) else None),), meta=parts.rest
    )


def _one(parts: Parts) -> tuple[Messages, str]:
    query, response = chat.split(asked.dialogue(parts, "completion"), parts.place("completion"))
    chat.check_query(query, parts.place("completion"))
    if not response:
        raise Unusable("empty_response", f"`{parts.place('completion')}`")
    return query, response
