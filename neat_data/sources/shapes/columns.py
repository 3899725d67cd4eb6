"""Which column holds what: a mapping from this project's words to places in a row, and the row taken apart by it.

The same mapping serves the table of shapes and `--columns prompt=question,chosen=answers.0.text`. A place is a column
or a dotted path of keys and list positions; a column whose own name holds dots is found by its whole name first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.sources.row import Columns, Unusable
from neat_data.sources.shapes import literals

WORDS = {
    "system": "the system turn, as text",
    "history": "earlier turns, as messages or as pairs of texts",
    "prompt": "the query: text or messages",
    "input": "text that goes below the prompt",
    "chosen": "the better side, or a list of them",
    "rejected": "the worse side, or a list of them",
    "chosen_score": "a number for the better side",
    "rejected_score": "a number for the worse side",
    "responses": "a list of answers: texts, messages, or objects with a text and a score",
    "scores": "a number for each of the responses, higher is better",
    "ranks": "a number for each of the responses, lower is better",
    "order": "positions of the responses, best first",
    "best": "the position of the best response",
    "models": "who wrote each of the responses",
    "response_a": "the first of two answers",
    "response_b": "the second of two answers",
    "better": "which of two is better: a or b, 1 or 2, response_a or the column's own name, tie",
    "completion": "one answer",
    "label": "whether that answer is good",
    "score": "a number for that answer",
    "model": "who wrote that answer",
}
"""What `--columns` can name."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A row taken apart.

    Attributes:
        values: what stands under each word; a word whose place the row lacks is not there.
        places: the place of each word, for messages.
        rest: the columns that no word took, for `meta`.
    """

    values: Columns
    places: Mapping[str, str]
    rest: Columns

    def place(self, word: str) -> str:
        """The place of `word` in the row."""
        return self.places.get(word, word)

    def get(self, word: str) -> Any:
        """What stands under `word`, None where nothing does."""
        return self.values.get(word)

    def given(self, word: str) -> bool:
        """Whether anything stands under `word`."""
        return self.values.get(word) is not None


_MISSING = object()


def take_apart(row: Columns, places: Mapping[str, str], needed: tuple[str, ...]) -> Parts:
    """The row's `Parts`; Unusable where the place of a needed word is missing."""
    values = {word: value for word, place in places.items() if (value := value_at(row, place)) is not _MISSING}
    for word, place in places.items():
        if word not in values and word in needed:
            raise Unusable("missing_column", f"`{place}`")
    rest = row
    for word in values:
        rest = _without(rest, places[word])
    return Parts(values, places, rest)


def value_at(row: Any, place: str) -> Any:
    """What stands at `place`; `_MISSING` where nothing does."""
    if isinstance(row, dict) and (place in row or "." not in place):
        return row.get(place, _MISSING)
    head, dot, tail = place.partition(".")
    inner = _step(row, head)
    return value_at(inner, tail) if dot and inner is not _MISSING else inner


def holds(row: Any, place: str) -> bool:
    """Whether `place` is there."""
    return value_at(row, place) is not _MISSING


def given(row: Any, place: str) -> bool:
    """Whether anything stands at `place`."""
    return value_at(row, place) not in (_MISSING, None)


def _step(value: Any, key: str) -> Any:
    value = literals.parsed(value)
    if isinstance(value, dict):
        return value.get(key, _MISSING)
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return _MISSING


def _without(row: Columns, place: str) -> Columns:
    """A copy of `row` less what stands at `place`; objects that this leaves empty go, lists keep their length."""
    if place in row:
        return {key: value for key, value in row.items() if key != place}
    head, _, tail = place.partition(".")
    inner = row.get(head)
    if not isinstance(inner, dict):
        return row  # of a list the whole column stays in meta
    less = _without(inner, tail)
    return {key: less if key == head else value for key, value in row.items() if key != head or less}


def mapping(columns: str | Path | Mapping[str, str]) -> dict[str, str]:
    """Places by word: from `WORD=PLACE,…`, a YAML file of the same, or as they are.

    Raises:
        InputError: a word is unknown or named twice, or the file is no mapping of texts.
    """
    if isinstance(columns, Mapping):
        given = dict(columns)
    else:
        text = str(columns)
        given = _from_yaml(Path(text)) if text.endswith((".yaml", ".yml")) else _from_text(text)
    for word in given:
        if word not in WORDS:
            raise InputError(f"no such word {word!r}; known are {', '.join(WORDS)}", field="columns")
    return given


def _from_text(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for item in text.split(","):
        word, equals, place = (part.strip() for part in item.partition("="))
        if not equals or not word or not place or word in given:
            raise InputError(f"{item.strip()!r} is not WORD=PLACE, or names a word again", field="columns")
        given[word] = place
    return given


def _from_yaml(path: Path) -> dict[str, str]:
    import yaml

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read ({str(error).splitlines()[0]})", field="columns", value=path) from None
    if isinstance(given, dict) and isinstance(given.get("columns"), dict):
        given = given["columns"]
    if not isinstance(given, dict) or not all(isinstance(place, str | int) for place in given.values()):
        raise InputError("holds no mapping of words to places", field="columns", value=path)
    return {str(word): str(place) for word, place in given.items()}
