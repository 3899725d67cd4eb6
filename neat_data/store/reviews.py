"""What people said of responses: `reviews/RATER.jsonl`, one event a line, and which responses these events leave out.

An event is a verdict on a response, says which of two is worse, or takes back an earlier one (`undoes`). Lines are
only ever appended, so what a killed writer leaves behind is a last line without its end: it was never acknowledged, and
counts where it is whole all the same. Of what one rater said of a response, or of two, the latest that was not taken
back counts.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from neat_data.errors import InputError
from neat_data.options.words import DropBy
from neat_data.store.typed import built

FOLDER = "reviews"
Verdict = Literal["keep", "drop", "off_prompt", "edit", "worse", "same"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
DROPPING = frozenset({"drop", "off_prompt"})
COMPARING = frozenset({"worse", "same"})
_RATER = re.compile(r"\w[\w.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a rater's file.

    Attributes:
        event: names the event, made by who sends it, so that what is sent twice counts once; "" in older files.
        response_id: the response that is spoken of.
        verdict: None where an earlier event is taken back; `edit` says that `text` should stand there instead, `worse`
            that the response is worse than `than`, `same` that neither is.
        undoes: the event that is taken back.
        than: of a comparison, the other response.
        text: of an edit, what a person made of the response; no surrounding whitespace.
        scale: from 1 (worst) to 5.
        labels: labels of the raters' own.
        note: what else the rater has to say.
        time: when it was written, ISO 8601 in UTC.
    """

    event: str
    response_id: str
    verdict: Verdict | None = None
    undoes: str | None = None
    than: str | None = None
    text: str | None = None
    scale: int | None = None
    labels: tuple[str, ...] = ()
    note: str = ""
    time: str = ""

    @property
    def subject(self) -> str:
        """What is spoken of: the id of a response, or `pair_id` of two that were compared."""
        return self.response_id if self.than is None else pair_id(self.response_id, self.than)

    def to_line(self) -> bytes:
        """JSON and a newline; what was not said is left out."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, (), "")}
        return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Event:
        """The inverse of `to_line`; fields that are not known are passed over.

        Raises:
            TypeError, ValueError: no such event.
        """
        values = json.loads(line)
        if not isinstance(values, dict) or not isinstance(values.get("response_id"), str):
            raise ValueError("it names no response_id")
        verdict, undoes = values.get("verdict"), values.get("undoes")
        if (verdict is None) == (undoes is None):
            raise ValueError("it holds neither a verdict nor what it undoes, or both")
        if verdict is not None and verdict not in VERDICTS:
            raise ValueError(f"verdict {verdict!r} is none of {', '.join(VERDICTS)}")
        for name, wanted in (("than", verdict in COMPARING), ("text", verdict == "edit")):
            if isinstance(values.get(name), str) != wanted:
                raise ValueError(f"verdict {verdict!r} {'asks for' if wanted else 'has no'} {name}")
        known = {name: values[name] for name in cls.__slots__ if values.get(name) is not None}
        if isinstance(labels := known.get("labels", []), list):
            known["labels"] = tuple(labels)
        return built(cls, {"event": "", **known})


@dataclass(frozen=True, slots=True)
class Events:
    """A rater's file: its events in order, how many bytes of it are whole, and whether a torn line follows these."""

    events: tuple[Event, ...]
    whole: int
    torn: bool


def read_events(content: bytes, name: str) -> Events:
    """The events of one file.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        InputError: a line cannot be read, other than a last one that was cut.
    """
    lines = content.splitlines(keepends=True)
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(Event.from_line(line))
        except (ValueError, TypeError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                return Events(tuple(events), len(content) - len(line), True)
            raise InputError(f"{name}, line {number}: no review event ({error}).") from error
    return Events(tuple(events), len(content), False)


def standing(events: Iterable[Event]) -> dict[str, Event]:
    """By `subject`, the latest of one rater's verdicts that was not taken back; in the order in which they came."""
    events = tuple(events)
    undone = {event.undoes for event in events if event.undoes is not None}
    given: dict[str, Event] = {}
    for event in events:
        if event.verdict is not None and (not event.event or event.event not in undone):
            given.pop(event.subject, None)
            given[event.subject] = event
    return given


def dropped(verdicts: Iterable[Mapping[str, Event]], by: DropBy) -> frozenset[str]:
    """Ids of the responses that raters leave out.

    Args:
        verdicts: of each rater, what `standing` gives.
        by: `any`: one rater's drop is enough; `majority`: more than half, `all`: all of those who judged the response.
    """
    judged: Counter[str] = Counter()
    against: Counter[str] = Counter()
    for of_one in verdicts:
        judged.update(list(of_one))
        against.update(response for response, event in of_one.items() if event.verdict in DROPPING)
    enough = {"any": lambda n, of: n >= 1, "majority": lambda n, of: 2 * n > of, "all": lambda n, of: n == of}[by]
    return frozenset(response for response, count in against.items() if enough(count, judged[response]))


def pair_id(one: str, other: str) -> str:
    """Names two responses that are compared, whichever comes first.

    >>> pair_id("b", "a")
    'a b'
    """
    return " ".join(sorted((one, other)))


def rater_name(name: str) -> str:
    """A rater's name in one spelling, fit to name a file.

    Raises:
        InputError: it is not.
    """
    spelled = unicodedata.normalize("NFC", name.strip())
    if not _RATER.fullmatch(spelled) or len(spelled.encode()) > 120:
        raise InputError(f"{name[:80]!r} cannot name a rater: take letters, digits, '.', '_' and '-', 64 at most.")
    return spelled


def rater_of(file: str) -> str:
    """The rater whose file this is: `reviews/ann.jsonl` is ann's."""
    return file.rsplit("/", 1)[-1].removesuffix(".jsonl")
