"""Whom people chose among a record's responses, by one rule for everything that asks. Pure functions.

A label speaks where it puts two responses or more in order, or says of one whether people accepted it. It speaks of
those responses that are still there; an order of which fewer than two are left says nothing, nor does a label that
names one response without a verdict, nor a row whose scores tied. Where labels disagree the earliest row is heard: what
it chose stays chosen, and what it rejected stays rejected. A response that people rejected is never taken as chosen
because nothing else was said. An empty text counts as any other; rows with one are rejected when a source is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from neat_data.record import Label, Record, Response


def chosen(record: Record) -> Response | None:
    """The response that people put first or accepted; None where they did so with none."""
    return _ends(record)[0]


def rejected(record: Record) -> Response | None:
    """The response that people put last or did not accept; None where there is no such."""
    return _ends(record)[1]


def pair(record: Record) -> tuple[Response, Response] | None:
    """The first and the last of the first order that people gave; None where they compared nothing."""
    order = next(iter(orders(record)), None)
    return None if order is None else (order[0], order[-1])


def chosen_or_best(record: Record) -> Response | None:
    """`chosen`, or the highest reward where people said nothing at all; None where neither is there."""
    if any(chain(orders(record), verdicts(record))):
        return chosen(record)
    scored = [response for response in record.responses if response.reward is not None]
    return best(scored) if scored else None


def firsts(record: Record) -> list[Response]:
    """Every response that some label puts first or accepts, each once, in the order of the labels."""
    return list({best.response_id: best for best, _ in _statements(record) if best is not None}.values())


def orders(record: Record) -> list[tuple[Response, ...]]:
    """What people put in order: two responses or more, best first, label by label."""
    spoken = labels_over(record.labels, {response.response_id for response in record.responses})
    return [tuple(map(record.response, label.order)) for label in spoken if len(label.order) >= 2]


def verdicts(record: Record) -> list[tuple[Response, bool]]:
    """Single responses that people accepted or did not, each statement once; rows that disagree give two."""
    spoken = labels_over(record.labels, {response.response_id for response in record.responses})
    judged = [(label.order[0], label.verdict) for label in spoken if label.verdict is not None]
    return [(record.response(identifier), verdict) for identifier, verdict in dict.fromkeys(judged)]


def best(responses: Sequence[Response]) -> Response:
    """The response with the highest reward; among equals its id decides, never the place at which the source had it."""
    return min(responses, key=best_first)


def best_first(response: Response) -> tuple[float, str]:
    """Sorts responses with a reward: the highest first, equals by their id."""
    assert response.reward is not None
    return -response.reward, response.response_id


def labels_over(labels: Sequence[Label], ids: Collection[str]) -> tuple[Label, ...]:
    """The labels as far as they speak of these responses; without those that say nothing any more."""
    narrowed = ((label, tuple(identifier for identifier in label.order if identifier in ids)) for label in labels)
    return tuple(
        label if order == label.order else replace(label, order=order)
        for label, order in narrowed
        if len(order) == len(label.order) or len(order) >= 2
    )


def _ends(record: Record) -> tuple[Response | None, Response | None]:
    """Chosen and rejected; a label that contradicts an earlier one is not heard."""
    top: Response | None = None
    bottom: Response | None = None
    for first, last in _statements(record):
        if (first is None or first != bottom) and (last is None or last != top):
            top, bottom = top or first, bottom or last
    return top, bottom


def _statements(record: Record) -> Iterator[tuple[Response | None, Response | None]]:
    """Label by label, what it says is best and what worst."""
    for label in labels_over(record.labels, {response.response_id for response in record.responses}):
        if len(label.order) >= 2:
            yield record.response(label.order[0]), record.response(label.order[-1])
        elif label.order and label.verdict is not None:
            only = record.response(label.order[0])
            yield (only, None) if label.verdict else (None, only)
