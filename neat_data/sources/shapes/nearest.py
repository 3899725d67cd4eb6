"""Columns that no shape knows -> the mapping that comes nearest, ready to paste as `columns`.

A guess by names alone, for a person to correct; nothing is ever read by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from neat_data.sources.row import Columns

# What columns of each kind are called; the first name that fits and is not taken. A stranger's goes here.
_NAMES = {
    "rejected": r"reject|dispref|non_?pref|los(e|er|ing)|wors|bad|neg|refused|(^|_)[kl]$",
    "chosen": r"chosen|prefer|accept|win|better|best|good|pos|(^|_)[jw]$",
    "responses": r"(responses|answers|completions|candidates|outputs|generations|summaries|replies)$",
    "label": r"label|thumb|feedback|verdict|is_|liked|rating",
    "completion": r"response|answer|completion|output|reply|text$",
    "system": r"^sys",
    "prompt": r"prompt|question|query|instruction|input|post|context|conversation|messages|history|problem|user|text",
}
_KINDS = (("chosen", "rejected"), ("responses",), ("completion", "label"))
_DEEPEST = 3


def mapping(rows: Sequence[Columns]) -> str:
    r"""What says most of what columns like these may hold, as `columns` takes it.

    >>> mapping([{"ask": "Why?", "good_reply": "a", "bad_reply": "b"}])
    'prompt=ask,chosen=good_reply,rejected=bad_reply'
    """
    places = dict(item for row in rows[:1] for item in _places(row))
    for words in _KINDS:
        matched = _matched(words, places)
        if len(matched) == len(words):
            return _option(matched, places)
    return _option(_twins(places), places)


def _places(value: Any, prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Every place of a row that holds a text, a list, a number or a boolean."""
    for key, item in value.items():
        place = f"{prefix}{key}"
        if isinstance(item, dict) and depth < _DEEPEST:
            yield from _places(item, f"{place}.", depth + 1)
        elif item is not None and not re.search(r"[,=\s\x00-\x1f]", place):
            yield place, item


def _matched(words: Sequence[str], places: Columns) -> dict[str, str]:
    matched: dict[str, str] = {}
    for word in sorted(words, key=list(_NAMES).index):
        fits = re.compile(_NAMES[word], re.IGNORECASE)
        kind: type | tuple[type, ...] = list if word == "responses" else object if word == "label" else (str, list)
        fitting = (
            place
            for place, value in places.items()
            if place not in matched.values() and isinstance(value, kind) and fits.search(place.rpartition(".")[2])
        )
        if place := next(fitting, None):
            matched[word] = place
    return matched


def _twins(places: Columns) -> dict[str, str]:
    """Two columns that differ in a letter or digit, as two answers; else a pair of which nothing is known."""
    texts = [place for place, value in places.items() if isinstance(value, str | list)]
    for first in texts:
        for a, b in (("a", "b"), ("A", "B"), ("0", "1"), ("1", "2")):
            second = re.sub(rf"{a}(?=[^a-zA-Z0-9]*$)", b, first)
            if second != first and second in texts:
                return {"response_a": first, "response_b": second, "better": "COLUMN"}
    return {"chosen": "COLUMN", "rejected": "COLUMN"}


def _option(matched: dict[str, str], places: Columns) -> str:
    left = {place: value for place, value in places.items() if place not in matched.values()}
    front = _matched(("system",), left)
    left = {place: value for place, value in left.items() if place not in front.values()}
    texts = (place for place, value in left.items() if isinstance(value, str | list))
    front["prompt"] = _matched(("prompt",), left).get("prompt") or next(texts, "COLUMN")
    order = ("system", "prompt", "chosen", "rejected", "responses", "response_a", "response_b", "better", "completion")
    both = {**front, **matched}
    return ",".join(f"{word}={both[word]}" for word in (*order, "label") if word in both)
