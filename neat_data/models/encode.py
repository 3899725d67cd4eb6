"""A task to token sequences: the query cut once to its share of the length, every response whole or refused."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from neat_data.models.reward import Task
from neat_data.models.templates import ChatTemplate, TemplateRefused
from neat_data.record import Message, Messages

RESPONSE_TOO_LONG = "response_too_long"
QUERY_TOO_LONG = "query_too_long"
TEMPLATE_REFUSED = "template_refused"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of each response behind its query, None where it was refused; `refused` holds the reasons."""

    sequences: tuple[list[int] | None, ...]
    refused: tuple[str | None, ...]
    turns_cut: int = 0


def encode(task: Task, template: ChatTemplate, max_length: int, max_response: int) -> Encoded:
    """Token ids of a task.

    The query, with the header of the answer, gets `max_length - max_response` tokens and loses whole oldest turns until
    it fits, the same ones for every response. A response is what comes behind it, its end of turn included,
    and is refused above `max_response` tokens: a cut one would be another response.
    """
    try:
        messages, length = _fit(task.messages, template, max_length - max_response)
    except TemplateRefused:
        return _refused(task, TEMPLATE_REFUSED)
    cut = len(task.messages) - len(messages)
    if length > max_length - max_response:
        return _refused(task, QUERY_TOO_LONG)
    try:
        texts = [template.text((*messages, Message("assistant", text))) for text in task.texts]
    except TemplateRefused:
        return _refused(task, TEMPLATE_REFUSED)
    found = template.encode_texts(texts) if texts else []
    long = [len(ids) - length > max_response for ids in found]
    return Encoded(
        tuple(None if over else ids for ids, over in zip(found, long, strict=True)),
        tuple(RESPONSE_TOO_LONG if over else None for over in long),
        cut,
    )


def _fit(messages: Messages, template: ChatTemplate, limit: int) -> tuple[Messages, int]:
    """The longest end of the query within the limit, and its tokens; the shortest possible where none fits.

    A leading system turn stays, and what follows it begins with a user turn: templates insist on that.
    """
    length = len(template.ids(messages, ask=True))
    if length <= limit:
        return messages, length
    system = messages[:1] if messages[0].role == "system" else ()
    starts = [i for i, m in enumerate(messages) if m.role == "user" and i > len(system)]
    if not starts:
        return messages, length
    cuts = [(*system, *messages[start:]) for start in starts]
    # Every later start is shorter: the first that fits is the longest.
    best = bisect_left(cuts, True, key=lambda cut: len(template.ids(cut, ask=True)) <= limit)
    chosen = cuts[min(best, len(cuts) - 1)]
    return chosen, len(template.ids(chosen, ask=True))


def _refused(task: Task, reason: str) -> Encoded:
    return Encoded((None,) * len(task.texts), (reason,) * len(task.texts))
