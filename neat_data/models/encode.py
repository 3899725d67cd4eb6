"""Queries and tasks to token ids: the query cut once to its share of the length, every response whole or refused."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from neat_data.models.reward_model import Task
from neat_data.models.sampler import Ask
from neat_data.models.templates import ChatTemplate, TemplateRefused
from neat_data.record import Message, Messages

RESPONSE_TOO_LONG = "response_too_long"
QUERY_TOO_LONG = "query_too_long"
TEMPLATE_REFUSED = "template_refused"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of each response behind its query, None where it was refused; `refused` holds the reasons.

    `detail` is the sentence of a template that refused the task, `query` the tokens of the query, its answer's header
    with it, at the head of every sequence.
    """

    sequences: tuple[list[int] | None, ...]
    refused: tuple[str | None, ...]
    turns_cut: int = 0
    detail: str | None = None
    query: int = 0

    @property
    def details(self) -> tuple[str | None, ...]:
        """The detail for each response, as `Scored` takes them."""
        return (self.detail,) * len(self.refused) if self.detail else ()


def encode(task: Task, template: ChatTemplate, max_length: int, max_response: int) -> Encoded:
    """Token ids of a task.

    The query, with the header of the answer, gets `max_length - max_response` tokens and loses whole oldest turns until
    it fits, the same ones for every response. A response is what comes behind it, its end of turn included,
    and is refused above `max_response` tokens: a cut one would be another response.
    """
    try:
        messages, asked = _fit(task.messages, lambda cut: template.ids(cut, ask=True), max_length - max_response)
    except TemplateRefused as error:
        return _refused(task, TEMPLATE_REFUSED, str(error))
    cut, length = len(task.messages) - len(messages), len(asked)
    if length > max_length - max_response:
        return _refused(task, QUERY_TOO_LONG)
    try:
        texts = [template.text((*messages, Message("assistant", text))) for text in task.texts]
    except TemplateRefused as error:
        return _refused(task, TEMPLATE_REFUSED, str(error))
    tokenized = template.encode_texts(texts) if texts else []
    long = [len(ids) - length > max_response for ids in tokenized]
    return Encoded(
        tuple(None if over else ids for ids, over in zip(tokenized, long, strict=True)),
        tuple(RESPONSE_TOO_LONG if over else None for over in long),
        cut,
        query=length,
    )


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """Token ids that a generator continues, empty where the query was refused for the reason `refused`."""

    ids: list[int]
    refused: str | None = None
    turns_cut: int = 0


def encode_query(ask: Ask, template: ChatTemplate, max_length: int) -> EncodedQuery:
    """Token ids of a query with the header of the answer.

    It gets `max_length` less the new tokens asked for, and loses whole oldest turns until it fits.
    """
    limit = max_length - ask.sampling.max_new_tokens
    try:
        messages, ids = _fit(ask.messages, template.query_ids, limit, ask.lead)
    except TemplateRefused:
        return EncodedQuery([], TEMPLATE_REFUSED)
    if len(ids) > limit:
        return EncodedQuery([], QUERY_TOO_LONG)
    return EncodedQuery(ids, None, len(ask.messages) - len(messages))


def _fit(
    messages: Messages, ids_of: Callable[[Messages], list[int]], limit: int, lead: str = ""
) -> tuple[Messages, list[int]]:
    """The longest end of the query within the limit, and its token ids; the shortest possible where none fits.

    A leading system turn stays, and what follows it begins with a user turn: templates insist on that. That turn gets
    `lead` in front, as the first one had.
    """
    ids = ids_of(messages)
    if len(ids) <= limit:
        return messages, ids
    system = messages[:1] if messages[0].role == "system" else ()
    starts = [i for i, m in enumerate(messages) if m.role == "user" and i > len(system)]
    if not starts:
        return messages, ids
    cuts = [(*system, _led(messages[start], lead), *messages[start + 1 :]) for start in starts]
    # Every later start is shorter: the first that fits is the longest.
    best = bisect_left(cuts, True, key=lambda cut: len(ids_of(cut)) <= limit)
    chosen = cuts[min(best, len(cuts) - 1)]
    return chosen, ids_of(chosen)


def _led(message: Message, lead: str) -> Message:
    return replace(message, content=lead + message.content)


def _refused(task: Task, reason: str, detail: str | None = None) -> Encoded:
    return Encoded((None,) * len(task.texts), (reason,) * len(task.texts), detail=detail)
