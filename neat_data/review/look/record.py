"""One record as its page shows it: the dialogue, and every response with what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from neat_data.errors import InputError
from neat_data.record import Label, Message, Record, Response
from neat_data.report.escape import one_line
from neat_data.report.tables import number
from neat_data.review.look.diff import Part, differences
from neat_data.review.look.index import Index
from neat_data.store.dataset import PreferenceDataset


@dataclass(frozen=True)
class Shown:
    """One response.

    Attributes:
        rewards: what each reward model gives it, by the model's name, the dataset's own first.
        facts: what else is known, as names and values.
        said: what people said of it in the source.
        dropped: whether reviewers dropped it.
    """

    response: Response
    rewards: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    said: tuple[str, ...]
    dropped: bool


@dataclass(frozen=True)
class Page:
    """One record; `compared`: the word diff of two responses, None where none was asked for."""

    record: Record
    shown: tuple[Shown, ...]
    compared: tuple[int, int, list[Part] | None] | None


def page(dataset: PreferenceDataset, index: Index, row: int, two: tuple[int, int] | None) -> Page:
    """The page of a record.

    Args:
        row: of the index.
        two: responses to compare, counted from 1, best first.

    Raises:
        InputError: there are no such responses.
    """
    number, _ = index.shard_of(row)
    table = dataset.shard_table(number, scores=True, dropped=True)
    (stored,) = table.filter(pc.equal(table["query_id"], index.frame["query_id"][row])).to_pylist()
    scores = stored.pop("scores")
    record = Record.from_dict(stored)
    shown = tuple(
        _shown(record, place, {name: values[place] for name, values in scores.items()}, dataset.dropped)
        for place in range(len(record.responses))
    )
    return Page(record, shown, _compared(record.responses, two))


def preview(messages: Sequence[Message], characters: int = 240) -> str:
    """The beginning of the dialogue's last turn, on one line."""
    text = " ".join(messages[-1].content[: 2 * characters].split()) if messages else ""
    return text if len(text) <= characters else f"{text[:characters].rstrip()} …"


def _shown(record: Record, place: int, scores: dict[str, float | None], dropped: frozenset[str]) -> Shown:
    response = record.responses[place]
    rewards = tuple((one_line(name), number(value)) for name, value in scores.items())
    said = tuple(text for label in record.labels if (text := _said(label, response.response_id)))
    return Shown(response, rewards, tuple(_facts(response)), said, response.response_id in dropped)


def _facts(response: Response) -> list[tuple[str, str]]:
    marks = [name for name, holds in (("cut", response.finished is False), ("truncated", response.truncated)) if holds]
    known = {
        "origin": response.origin,
        "prompt": response.polarity,
        "model": response.model,
        "round": str(response.round),
        "seed": None if response.seed is None else str(response.seed),
        "characters": f"{len(response.text):,}",
        "marks": ", ".join(marks) or None,
    }
    return [(name, one_line(value)) for name, value in known.items() if value is not None]


def _said(label: Label, response: str) -> str | None:
    if response not in label.order:
        return None
    where = one_line(f"{label.name} row {label.row:,}")
    if label.verdict is not None:
        return f"{'accepted' if label.verdict else 'not accepted'} in {where}"
    place, of = label.order.index(response) + 1, len(label.order)
    if of < 2:
        return None
    if of == 2:
        return f"{'chosen' if place == 1 else 'rejected'} in {where}"
    return f"place {place} of {of} in {where}"


def _compared(responses: Sequence[Response], two: tuple[int, int] | None) -> tuple[int, int, list[Part] | None] | None:
    if two is None:
        return None
    if not all(1 <= place <= len(responses) for place in two):
        raise InputError(f"there are {len(responses)} responses to compare")
    first, second = (responses[place - 1].text for place in two)
    return *two, differences(first, second)
