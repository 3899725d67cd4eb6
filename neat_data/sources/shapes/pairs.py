"""Rows with a chosen and a rejected side: HH, full-HH, TRL, ShareGPT pairs, message lists, binarized UltraFeedback.

Each side is made a whole dialogue and split by itself, and the two queries are compared: a row whose queries differ
is refused, never cut to fit.
"""

from __future__ import annotations

from typing import Any

from neat_data.record import Messages
from neat_data.sources.row import SourceAnswer, Understood, Unusable
from neat_data.sources.shapes import chat, sides
from neat_data.sources.shapes.values import number

# The chosen side again: binarized UltraFeedback and full-HH.
_REPEATED = ("messages", "response")
_SCORE_COLUMNS = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))


def hh(row: dict[str, Any]) -> Understood:
    """`chosen` and `rejected` are whole dialogues: HH's text, or TRL's message lists (implicit prompt)."""
    return _pair(row, "chosen", "rejected")


def message_lists(row: dict[str, Any]) -> Understood:
    """`chosen_messages` and `rejected_messages` are whole dialogues."""
    return _pair(row, "chosen_messages", "rejected_messages")


def prompted(row: dict[str, Any]) -> Understood:
    """`prompt` beside `chosen` and `rejected`: full-HH, TRL with an explicit prompt, binarized UltraFeedback."""
    return _pair(row, "chosen", "rejected", "prompt")


def sharegpt(row: dict[str, Any]) -> Understood:
    """`conversations` beside `chosen` and `rejected`, each one message."""
    return _pair(row, "chosen", "rejected", "conversations")


def _pair(row: dict[str, Any], chosen: str, rejected: str, prompt: str | None = None) -> Understood:
    query, best, worst = _texts(row, chosen, rejected, prompt)
    (best_score, worst_score), score_columns = _scores(row)
    used = {chosen, rejected, prompt, *score_columns}
    meta = {key: value for key, value in row.items() if key not in used}
    for repeated in _REPEATED:
        if meta.get(repeated) == row[chosen]:
            del meta[repeated]
    # Where the source's own scores tie, which side it calls chosen is an accident of how it was made.
    tied = best_score is not None and best_score == worst_score
    answers = (SourceAnswer(best, best_score), SourceAnswer(worst, worst_score))
    return Understood(query, answers, () if tied else (0, 1), meta=meta)


def _texts(row: dict[str, Any], chosen: str, rejected: str, prompt: str | None) -> tuple[Messages, str, str]:
    """The query and both responses, checked."""
    query, best = chat.split(_dialogue(row, chosen, prompt), chosen)
    other_query, worst = chat.split(_dialogue(row, rejected, prompt), rejected)
    if query != other_query:
        raise Unusable("queries_differ", _difference(query, other_query))
    chat.check_query(query, chosen)
    for response, column in ((best, chosen), (worst, rejected)):
        if not response:
            raise Unusable("empty_response", f"`{column}`")
    if best == worst:
        raise Unusable("identical_responses")
    return query, best, worst


def _dialogue(row: dict[str, Any], column: str, prompt: str | None) -> Messages:
    return sides.whole(row[column], column) if prompt is None else sides.prompted(row[prompt], row[column], column)


def _difference(query: Messages, other: Messages) -> str:
    for position, (left, right) in enumerate(zip(query, other, strict=False)):
        if left != right:
            return f"turn {position} ({left.role} / {right.role})"
    return f"{len(query)} and {len(other)} turns"


def _scores(row: dict[str, Any]) -> tuple[tuple[float | None, float | None], tuple[str, ...]]:
    """The rewards of both sides and the columns they stood in."""
    for chosen, rejected in _SCORE_COLUMNS:
        if row.get(chosen) is not None and row.get(rejected) is not None:
            return (number(row[chosen], chosen), number(row[rejected], rejected)), (chosen, rejected)
    return (None, None), ()
