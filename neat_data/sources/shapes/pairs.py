"""Rows with a chosen and a rejected side, whatever their columns are called, with or without a prompt beside them.

Each side is made a whole dialogue and split by itself, and the two queries are compared: a row whose queries differ
is refused, never cut to fit. Where a side is a list of answers, each of the one is better than each of the other.
"""

from __future__ import annotations

from typing import Any

from neat_data.record import Messages
from neat_data.sources.row import Columns, SourceAnswer, Understood, Unusable
from neat_data.sources.shapes import asked, chat, literals, ranked, sides, tags
from neat_data.sources.shapes.columns import Parts, value_at
from neat_data.sources.shapes.values import number

# The chosen side again: binarized UltraFeedback and full-HH.
_REPEATED = ("messages", "response")
# How ratings of the two sides are spelt; a stranger's goes here. A dotted one lies inside a column.
_SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
    ("chosen-score", "rejected-score"),
    ("chosen_reward", "rejected_reward"),
    ("reward_chosen", "reward_rejected"),
    ("metadata.score_chosen", "metadata.score_rejected"),
    ("metadata.chosen_score", "metadata.rejected_score"),
    ("metadata.chosen_rating", "metadata.rejected_rating"),
)
_RATINGS = ("rating", "ratings")


def pair(parts: Parts) -> Understood:
    """`chosen` and `rejected` beside a `prompt`, or as whole dialogues."""
    parts = _queried(parts)
    if _several(parts.get("chosen")) or _several(parts.get("rejected")):
        return _groups(parts)
    query, best, worst = _texts(parts)
    (best_score, worst_score), score_columns = _scores(parts)
    meta = {key: value for key, value in parts.rest.items() if key not in score_columns}
    for repeated in _REPEATED:
        if meta.get(repeated) == parts.get("chosen"):
            del meta[repeated]
    # Where the source's own scores tie, which side it calls chosen is an accident of how it was made.
    tied = best_score == worst_score if best_score is not None else _both_rated_alike(meta)
    answers = (SourceAnswer(best, best_score), SourceAnswer(worst, worst_score))
    return Understood(query, answers, () if tied else (0, 1), meta=meta)


def answered_messages(parts: Parts) -> Understood:
    """`prompt` is a dialogue whose last turn is the chosen answer, beside the `rejected` one (ms-swift)."""
    dialogue = sides.whole(parts.get("prompt"), parts.place("prompt"))
    query, best = chat.split(dialogue, parts.place("prompt"))
    turns = [{"role": turn.role, "content": turn.content} for turn in query]
    values = {**parts.values, "prompt": turns, "chosen": [{"role": "assistant", "content": best}]}
    return pair(Parts(values, {**parts.places, "chosen": parts.place("prompt")}, parts.rest))


def _queried(parts: Parts) -> Parts:
    """Without a prompt that is none: a column of that name beside sides that hold their query."""
    place = parts.place("prompt")
    beside = parts.get("prompt")
    if place == "prompt" or beside is None or not _is_no_query(beside, place):
        return parts
    if not all(sides.is_whole(parts.get(word), parts.place(word)) for word in ("chosen", "rejected")):
        return parts
    values = {word: value for word, value in parts.values.items() if word != "prompt"}
    return Parts(values, parts.places, {**parts.rest, place: beside})


def _is_no_query(value: Any, place: str) -> bool:
    value = chat.from_cell(value, place)
    return isinstance(value, str) or (isinstance(value, list) and sides.ends_answered(value))


def _several(side: Any) -> bool:
    """Whether a side is a list of answers, each a text or a list of messages."""
    return isinstance(side, list) and bool(side) and all(isinstance(item, str | list) for item in side)


def _groups(parts: Parts) -> Understood:
    chosen, rejected = ([side] if not _several(side) else side for side in map(parts.get, ("chosen", "rejected")))
    if isinstance(parts.get("prompt"), list) and parts.get("prompt") and isinstance(parts.get("prompt")[0], str):
        raise Unusable("bad_message", "the columns hold lists: a table by columns; write one row a line")
    levels = [1.0] * len(chosen) + [0.0] * len(rejected)
    return ranked.from_items(parts, [*chosen, *rejected], "chosen + rejected", levels)


def _texts(parts: Parts) -> tuple[Messages, str, str]:
    """The query and both responses, checked."""
    chosen, rejected = parts.place("chosen"), parts.place("rejected")
    query, best = chat.split(asked.dialogue(parts, "chosen"), chosen)
    other_query, worst = chat.split(asked.dialogue(parts, "rejected"), rejected)
    if not parts.given("prompt"):
        _check_schemes(parts.get("chosen"), parts.get("rejected"))
    if query != other_query:
        raise Unusable("queries_differ", _difference(query, other_query))
    chat.check_query(query, chosen)
    for response, column in ((best, chosen), (worst, rejected)):
        if not response:
            raise Unusable("empty_response", f"`{column}`")
    if best == worst:
        raise Unusable("identical_responses")
    return query, best, worst


def _check_schemes(chosen: Any, rejected: Any) -> None:
    """Unusable where two texts mark their turns in two ways: one of them would be read by chance."""
    if isinstance(chosen, str) and isinstance(rejected, str) and tags.scheme_of(chosen) != tags.scheme_of(rejected):
        raise Unusable("unclear_turns", "the two sides mark their turns in different ways")


def _difference(query: Messages, other: Messages) -> str:
    for position, (left, right) in enumerate(zip(query, other, strict=False)):
        if left != right:
            return f"turn {position} ({left.role} / {right.role})"
    return f"{len(query)} and {len(other)} turns"


def _scores(parts: Parts) -> tuple[tuple[float | None, float | None], tuple[str, ...]]:
    """The rewards of both sides and the columns they stood in."""
    if parts.given("chosen_score") and parts.given("rejected_score"):
        words = ("chosen_score", "rejected_score")
        return (number(parts.get(words[0]), words[0]), number(parts.get(words[1]), words[1])), ()
    for columns in _SCORE_COLUMNS if parts.rest else ():
        chosen, rejected = (value_at(parts.rest, column) for column in columns)
        if _is_given(chosen) and _is_given(rejected):
            return (number(chosen, columns[0]), number(rejected, columns[1])), columns
    return (None, None), ()


def _is_given(value: Any) -> bool:
    """Whether a rating is there: tables hold blanks and NaN where there is none."""
    return value == value and (isinstance(value, int | float) or (isinstance(value, str) and value.strip() != ""))


def _both_rated_alike(meta: Columns) -> bool:
    """Whether a list of the two ratings says the same of both (distilabel)."""
    rated = (literals.parsed(meta.get(name)) for name in _RATINGS)
    return any(isinstance(ratings, list) and len(ratings) == 2 and ratings[0] == ratings[1] for ratings in rated)
