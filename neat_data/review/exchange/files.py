"""The verbs: what is to be judged out into a file of another tool, and verdicts back from one into `reviews/`.

Comparisons stay here: both tools are given single responses.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from neat_data.errors import InputError
from neat_data.record import Record
from neat_data.review.exchange import argilla, label_studio
from neat_data.review.exchange.form import ExchangeTask, Told
from neat_data.review.journal import Journal
from neat_data.review.rubric import GRADES
from neat_data.review.tasks import Tasks
from neat_data.store.atomic import write_atomically
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.inside import refuse_inside_dataset
from neat_data.store.reviews import COMPARING, VERDICTS, Event, rater_name, standing

Tool = Literal["label-studio", "argilla"]
_READ: dict[Tool, Callable[[dict[str, Any]], Iterator[tuple[str, Told]]]] = {
    "label-studio": label_studio.from_task,
    "argilla": argilla.from_record,
}
_MAX_TEXT = 400_000  # characters


@dataclass(frozen=True)
class Taken:
    """What an import did: verdicts read and written now, by rater; those that speak of no response of the dataset."""

    read: int
    written: dict[str, int]
    unknown: int


def write(tasks: Tasks, tool: Tool, path: Path) -> int:
    """Write what is to be judged, with the verdicts so far; how many responses these are.

    Label Studio's labelling interface is written beside it, as `PATH.xml`.

    Raises:
        InputError: the tasks are pairs; the path lies in a dataset.
    """
    if tasks.mode == "pairs":
        raise InputError("pairs are judged here alone", field="mode", value="pairs")
    refuse_inside_dataset(path)
    rows = [
        label_studio.to_task(task, number) if tool == "label-studio" else argilla.to_record(task)
        for number, task in enumerate(_tasks(tasks), 1)
    ]
    _write(path, json.dumps(rows, ensure_ascii=False, indent=1))
    if tool == "label-studio":
        _write(path.with_name(f"{path.name}.xml"), label_studio.CONFIG)
    return len(rows)


def read(dataset: PreferenceDataset, tool: Tool, path: Path) -> Taken:
    """Take the verdicts of a file that the tool exported; what was taken before is not written again.

    Raises:
        InputError: the file cannot be read, or an entry is none of this tool's; nothing is written then.
        RunError: `reviews/` cannot be written.
    """
    events = [(rater_name(_spelled(told.rater)), event) for told, event in _events(_rows(path), tool, path)]
    known = set(dataset.scan(dropped=True).select("response_id").collect()["response_id"])
    written: Counter[str] = Counter()
    for rater in dict.fromkeys(rater for rater, _ in events):
        journal = Journal(Path(dataset.path), rater)
        before = standing(journal.events())
        for name, event in events:
            if name == rater and event.response_id in known and not _is_there(event, before):
                journal.append(event)
                written[rater] += 1
    return Taken(len(events), dict(written), sum(event.response_id not in known for _, event in events))


def _tasks(tasks: Tasks) -> Iterator[ExchangeTask]:
    said = {rater: standing(events) for rater, events in sorted(tasks.dataset.reviews.items())}
    wanted = pl.col("query_id").is_in(pl.Series(sorted(tasks.items)).implode())
    frame = tasks.dataset.scan_records(dropped=True).filter(wanted)
    for row in frame.collect().iter_rows(named=True):
        record = Record.from_dict(row)
        for response in tasks.items[record.query_id]:
            verdicts = (_told(rater, of[response]) for rater, of in said.items() if response in of)
            dialogue = [{"role": turn.role, "content": turn.content} for turn in record.messages]
            yield ExchangeTask(record.query_id, response, dialogue, record.response(response).text, tuple(verdicts))


def _told(rater: str, event: Event) -> Told:
    key = event.event or f"{rater}-{event.response_id}"
    return Told(rater, key, str(event.verdict), event.text, event.scale, event.labels, event.note)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogatepass")))


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: is no list of objects; export it as JSON.")
    return rows


def _events(rows: list[dict[str, Any]], tool: Tool, path: Path) -> Iterator[tuple[Told, Event]]:
    for number, row in enumerate(rows, 1):
        try:
            for response, told in _READ[tool](row):
                yield told, _event(response, told, tool)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{path}, entry {number}: is none of {tool} that speaks of a response ({what})."
            ) from error


def _event(response: str, told: Told, tool: Tool) -> Event:
    verdict = next((known for known in VERDICTS if known == told.verdict and known not in COMPARING), None)
    text = told.text.strip() if told.text is not None and verdict == "edit" else None
    if verdict is None or (verdict == "edit") != bool(text):
        raise ValueError(f"verdict {told.verdict!r} with text {text!r}")
    if told.scale is not None and (type(told.scale) is not int or told.scale not in GRADES):
        raise ValueError(f"scale {told.scale!r}")
    if not all(isinstance(part, str) and len(part) <= _MAX_TEXT for part in (told.note, text or "", *told.labels)):
        raise ValueError("a note or label that is no text")
    content = json.dumps([tool, told.key, response, verdict, text, told.scale, told.labels, told.note])
    name = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Event(name, response, verdict, text=text, scale=told.scale, labels=told.labels, note=told.note)


def _is_there(event: Event, before: dict[str, Event]) -> bool:
    """Whether the rater's verdict that stands says the same."""
    stands = before.get(event.response_id)
    said = [(e.verdict, e.text, e.scale, e.labels, e.note) for e in (event, stands) if e is not None]
    return len(said) == 2 and said[0] == said[1]


def _spelled(name: str) -> str:
    """A user's name or address in letters that may name a file."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".-")[:64]
