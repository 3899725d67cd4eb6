"""One rater before the judging page: which record comes next, what is shown of it, what an answer of the page says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from neat_data.errors import InputError
from neat_data.record import Record, Response
from neat_data.report.escape import one_line
from neat_data.report.tables import number
from neat_data.review.journal import Journal
from neat_data.review.rubric import GRADES, ReviewRubric
from neat_data.review.tasks import Mode, Tasks, shuffled
from neat_data.store.reviews import COMPARING, FOLDER, Event, pair_id, rater_name, rater_of, standing

MAX_NOTE = 4_000  # characters
MAX_TEXT = 400_000  # characters of an edited response
_RESPONSE = {"keep": "Keep", "drop": "Drop", "off_prompt": "Not what the prompt asked for"}
WORDS: dict[Mode, dict[str, str]] = {
    "verdicts": _RESPONSE,
    "edits": {**_RESPONSE, "edit": "Save what I wrote"},
    "pairs": {"first": "The first is worse", "second": "The second is worse", "same": "Neither is worse"},
}


@dataclass(frozen=True)
class Review:
    """What the pages show and write.

    Attributes:
        tasks: what is to be judged.
        show_rewards: whether rewards and origins are seen before the verdict.
        rubric: what raters are asked beside the verdict.
    """

    tasks: Tasks
    show_rewards: bool = False
    rubric: ReviewRubric = field(default_factory=ReviewRubric)
    _journals: dict[str, Journal] = field(default_factory=dict)
    _one_at_a_time: Lock = field(default_factory=Lock)

    def journal(self, name: str) -> tuple[str, Journal]:
        """A rater's name in its one spelling, and what they write into.

        Raises:
            InputError: this cannot name a rater.
        """
        rater = rater_name(name)
        with self._one_at_a_time:
            if rater not in self._journals:
                self._journals[rater] = Journal(Path(self.tasks.dataset.path), rater)
            return rater, self._journals[rater]

    def page(self, name: str, place: int | None) -> dict[str, Any]:
        """What the judging page is filled with; `place` None: the first record that is not judged whole.

        Raises:
            InputError: a bad name; no such place.
        """
        rater, journal = self.journal(name)
        given, queries = standing(journal.events()), self.tasks.order(rater)
        elsewhere = self._elsewhere(rater, given)
        if place is None:
            waiting = (n for n, query in enumerate(queries) if not (query in elsewhere or self._judged(query, given)))
            place = next(waiting, None)
        shown = {"rater": rater, "mode": self.tasks.mode, "rubric": self.rubric, "words": WORDS[self.tasks.mode]}
        shown |= {**self._progress(elsewhere, given), "last": self._last(given, queries), "records": len(queries)}
        if place is None:
            return {**shown, "place": len(queries), "record": None}
        if not 0 <= place < len(queries):
            raise InputError(f"there are {len(queries):,} records to judge, and none at {place}")
        record, items = self.tasks.record(queries[place], rater)
        cards = [self._card(record, item, given.get(item), rater) for item in items]
        return {**shown, "place": place, "record": record, "cards": cards}

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        """Write what the page sent; what it shows then.

        Raises:
            InputError: it is no event on what is to be judged.
            RunError: it could not be written.
        """
        rater, journal = self.journal(_text(body, "rater", 200))
        event = self._event(body)
        journal.append(event)
        given = standing(journal.events())
        record, _ = self.tasks.record(self.tasks.query_of[_subject(body)], rater)
        answers = _responses(record, _subject(body), rater)
        return {
            "saved": event.event,
            "facts": {answer.response_id: _facts(answer) for answer in answers},
            "last": self._last(given, self.tasks.order(rater)),
            **self._progress(self._elsewhere(rater, given), given),
        }

    def _event(self, body: dict[str, Any]) -> Event:
        if (subject := _subject(body)) not in self.tasks.query_of:
            raise InputError(f"response {one_line(subject)!r} is not among those to judge")
        event, response = _text(body, "event", 64), _text(body, "response_id", 64)
        if body.get("undoes") is not None:
            return Event(event, response, undoes=_text(body, "undoes", 64))
        verdict, than = body.get("verdict"), body.get("than")
        allowed = COMPARING if self.tasks.mode == "pairs" else WORDS[self.tasks.mode].keys()
        if not isinstance(verdict, str) or verdict not in allowed:
            raise InputError(f"verdict {str(verdict)[:40]!r} is none of {', '.join(sorted(allowed))}")
        text = _text(body, "text", MAX_TEXT).strip() if verdict == "edit" else None
        if text == "":
            raise InputError("text is empty")
        note = _text(body, "note", MAX_NOTE) if body.get("note") else ""
        return Event(event, response, verdict, None, than, text, _scale(body), self._labels(body), note)  # type: ignore[arg-type]

    def _labels(self, body: dict[str, Any]) -> tuple[str, ...]:
        labels = body.get("labels") or []
        if not isinstance(labels, list) or not all(label in self.rubric.labels for label in labels):
            raise InputError("labels is a list of those of the rubric")
        return tuple(label for label in self.rubric.labels if label in labels)

    def _elsewhere(self, rater: str, given: dict[str, Event]) -> set[str]:
        """The queries that others have begun and this rater does not get: neither shared nor begun by them too."""
        if self.tasks.overlap == 1:
            return set()
        return self._queries(self._said_by_others(rater)) - self._queries(given) - self.tasks.shared

    def _queries(self, subjects: Iterable[str]) -> set[str]:
        return {self.tasks.query_of[subject] for subject in subjects if subject in self.tasks.query_of}

    def _said_by_others(self, rater: str) -> Iterator[str]:
        for file in (Path(self.tasks.dataset.path) / FOLDER).glob("*.jsonl"):
            if (other := rater_of(file.name)) != rater:
                yield from standing(self.journal(other)[1].events())

    def _judged(self, query: str, given: dict[str, Event]) -> bool:
        return given.keys() >= set(self.tasks.items[query])

    def _progress(self, elsewhere: set[str], given: dict[str, Event]) -> dict[str, int]:
        """Of what this rater is to judge; a page of a million records counts none of them anew."""
        done = sum(subject in self.tasks.query_of for subject in given)
        not_theirs = sum(len(self.tasks.items[query]) for query in elsewhere)
        return {"done": done, "total": len(self.tasks.query_of) - not_theirs}

    def _last(self, given: dict[str, Event], queries: list[str]) -> dict[str, Any] | None:
        """What undo takes back, and the record that it is of."""
        mine = [event for event in given.values() if event.event and event.subject in self.tasks.query_of]
        if not mine:
            return None
        last = mine[-1]
        place = queries.index(self.tasks.query_of[last.subject])
        return {"event": last.event, "response_id": last.response_id, "than": last.than, "place": place}

    def _card(self, record: Record, item: str, event: Event | None, rater: str) -> dict[str, Any]:
        seen = self.show_rewards or event is not None
        answers = _responses(record, item, rater)
        shown = [{"id": a.response_id, "text": a.text, "facts": _facts(a) if seen else ""} for a in answers]
        return {"id": item, "event": event, "said": event and _said(event, answers[0]), "answers": shown}


def _responses(record: Record, item: str, rater: str) -> list[Response]:
    """The responses of an item, in this rater's order."""
    return [record.response(response) for response in shuffled(item.split(), f"{rater}\0{item}")]


def _said(event: Event, first: Response) -> str:
    """The button that was pressed."""
    if event.verdict != "worse":
        return str(event.verdict)
    return "first" if event.response_id == first.response_id else "second"


def _subject(body: dict[str, Any]) -> str:
    response = _text(body, "response_id", 64)
    return response if body.get("than") is None else pair_id(response, _text(body, "than", 64))


def _scale(body: dict[str, Any]) -> int | None:
    scale = body.get("scale")
    if scale is not None and (type(scale) is not int or scale not in GRADES):
        raise InputError("scale is a number from 1 to 5")
    return scale


def _text(body: dict[str, Any], name: str, most: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise InputError(f"{name} is a text of 1 to {most:,} characters")
    return value


def _facts(answer: Response) -> str:
    """What is told of a response once it was judged."""
    parts = [f"reward {number(answer.reward)}", answer.origin, answer.polarity and f"{answer.polarity} prompt"]
    return one_line(" · ".join(part for part in (*parts, answer.model, f"round {answer.round}") if part))
