"""What a source says of its answers: which of two is better, and the order that ratings, ranks or places give.

A tie under any spelling is no verdict; what cannot be read is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neat_data.sources.row import Unusable
from neat_data.sources.shapes import literals
from neat_data.sources.shapes.chat import kind
from neat_data.sources.shapes.values import bad_label, index, number

_FIRST = ("a", "1", "1.0", "model_a", "left", "first", "response_a")
_SECOND = ("b", "2", "2.0", "model_b", "right", "second", "response_b")
_TIES = ("", "tie", "tied", "both", "neither", "none", "equal", "draw", "tie (bothbad)", "both_bad", "bothbad")


def order(levels: Sequence[float | None]) -> tuple[int, ...]:
    """Positions best first, one for each level, so that a tie never becomes a verdict; () where all tie.

    >>> order([1.0, 3.5, 1.0]), order([2.0, 2.0]), order([None, 1.0, 2.0])
    ((1, 0), (), (2, 1))
    """
    first: dict[float, int] = {}
    for position, level in enumerate(levels):
        if level is not None:
            first.setdefault(level, position)
    positions = tuple(first[level] for level in sorted(first, reverse=True))
    return positions if len(positions) > 1 else ()


def better(value: Any, place: str, names: tuple[str, str] = ("", "")) -> tuple[int, ...]:
    """The order of two answers: `value` names one of them, by a word, by 1 or 2, or by its column; () for a tie."""
    value = literals.parsed(value)
    if isinstance(value, list):
        return _majority(value, place, names)
    key = str(value).strip().casefold()
    if isinstance(value, bool) or value is None or isinstance(value, dict):
        raise bad_label(value, place)
    if key in (*_FIRST, names[0].casefold()) and key:
        return 0, 1
    if key in (*_SECOND, names[1].casefold()) and key:
        return 1, 0
    if key in _TIES and key:
        return ()
    raise bad_label(value, place)


def _majority(votes: list[Any], place: str, names: tuple[str, str]) -> tuple[int, ...]:
    """The order that most of several raters gave; () where as many say the other."""
    orders = [better(_vote(vote, place), place, names) for vote in votes]
    if not orders:
        raise bad_label(votes, place)
    return from_strength(orders.count((1, 0)) - orders.count((0, 1)), place)


def _vote(vote: Any, place: str) -> Any:
    """A rater's word: itself, or what stands under `value` (Argilla), where a ranking names the first."""
    if not isinstance(vote, dict):
        return vote
    value = vote.get("value", vote)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return value
    ranks = [number(item.get("rank"), place) for item in value]
    first = [item.get("value") for item, rank in zip(value, ranks, strict=True) if rank == min(ranks)]
    return first[0] if len(first) == 1 else "tie"


def by_index(value: Any, place: str) -> tuple[int, ...]:
    """The order of two answers, of which `value` is the better one's position: 0 or 1."""
    first = index(value, place, 2)
    return first, 1 - first


def first_is_one(value: Any, place: str) -> tuple[int, ...]:
    """The order of two answers: 1 says the first, 0 the second (SHP)."""
    return tuple(reversed(by_index(value, place)))


def from_strength(value: Any, place: str) -> tuple[int, ...]:
    """The order of two answers: below zero the first, above zero the second, zero a tie (HelpSteer)."""
    strength = number(value, place)
    return (0, 1) if strength < 0 else (1, 0) if strength > 0 else ()


def one_hot(values: Sequence[Any], places: Sequence[str]) -> tuple[int, ...]:
    """The order of two answers from a column of 0 or 1 each for the first, the second and a tie (Arena)."""
    marks = [number(value, place) for value, place in zip(values, places, strict=True)]
    if sorted(marks) != [0.0] * (len(marks) - 1) + [1.0]:
        raise bad_label(values, ", ".join(places))
    return ((0, 1), (1, 0), ())[marks.index(1.0)]


def numbers(value: Any, place: str, length: int) -> list[Any]:
    """A list of `length` values, one for each of the answers."""
    value = literals.parsed(value)
    if not isinstance(value, list) or len(value) != length:
        raise Unusable("bad_score", f"`{place}` and the responses differ in number")
    return value


def from_positions(value: Any, place: str, length: int) -> tuple[int, ...]:
    """Positions of the responses, best first, as they stand."""
    value = literals.parsed(value)
    if not isinstance(value, list):
        raise Unusable("bad_label", f"`{place}` holds {kind(value)}, not a list")
    positions = tuple(index(item, place, length) for item in value)
    if len(set(positions)) != len(positions):
        raise bad_label(value, place)
    return positions


def ranking(value: Any, place: str, length: int) -> tuple[int, ...]:
    """`ranking`, where positions best first and a rank for each come to the same; else it has two meanings."""
    places = numbers(value, place, length)
    ranks = [number(item, place) for item in places]
    lowest = min(ranks, default=0.0)
    as_positions = tuple(int(rank - lowest) for rank in ranks)
    as_ranks = order([-rank for rank in ranks])
    if sorted(as_positions) != list(range(length)):
        return as_ranks  # ties, or gaps: these can only be ranks
    if as_positions != as_ranks:
        raise Unusable("bad_label", f"`{place}` may list positions or ranks; say --columns order= or ranks={place}")
    return as_ranks
