"""A query with a list of responses -> answers, and the order that the source gives them.

A bad response is left out, with a note of it, as long as two good ones remain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from neat_data.record import Messages
from neat_data.sources import chat
from neat_data.sources.row import Answer, Understood, Unusable


def understand(
    query: Messages,
    items: Any,
    column: str,
    read: Callable[[int, Any], Answer],
    meta: dict[str, Any],
    best_first: bool = False,
) -> Understood:
    """Read each of `items` by `read(index, item)`, which raises `Unusable` where one cannot be used.

    Scores order the answers where there are any; else, with `best_first`, their places do.
    """
    if not isinstance(items, list):
        raise Unusable("too_few_responses", f"`{column}` holds {chat.kind(items)}, not a list")
    chat.check_query(query, column)
    answers, left_out = _read_all(items, read)
    if len(answers) < 2:
        reason = left_out[0]["reason"] if left_out else "too_few_responses"
        raise Unusable(reason, f"`{column}` has {len(items)} responses, {len(answers)} of them usable")
    order = _by_score(answers) if answers[0].reward is not None else tuple(range(len(answers))) if best_first else ()
    return Understood(query, tuple(answers), order, meta={**meta, "left_out": left_out} if left_out else meta)


def _read_all(items: list[Any], read: Callable[[int, Any], Answer]) -> tuple[list[Answer], list[dict[str, Any]]]:
    answers: list[Answer] = []
    left_out: list[dict[str, Any]] = []
    seen: set[str] = set()
    for position, item in enumerate(items):
        try:
            answer = _new(read(position, item), seen)
        except Unusable as problem:
            left_out.append({"index": position, "reason": problem.reason, "text": _text(item)})
        else:
            seen.add(answer.text)
            answers.append(answer)
    return answers, left_out


def _text(item: Any) -> Any:
    """The response's text as it stood; whatever stands there where that is no text."""
    return item.get("response") if isinstance(item, dict) else item


def _new(answer: Answer, seen: set[str]) -> Answer:
    if not answer.text:
        raise Unusable("empty_response")
    if answer.text in seen:
        raise Unusable("identical_responses")
    return answer


def _by_score(answers: Sequence[Answer]) -> tuple[int, ...]:
    """One answer for each score, best first, so that a tie never becomes a verdict; () where all tie."""
    first: dict[float, int] = {}
    for position, answer in enumerate(answers):
        assert answer.reward is not None  # the whole list has scores or none of it has
        first.setdefault(answer.reward, position)
    order = tuple(first[score] for score in sorted(first, reverse=True))
    return order if len(order) > 1 else ()
