"""JSON Lines and JSON arrays, row by row, so that one bad row costs that row only.

Bytes go in, `RawRow` rows come out. Lines are cut at ``\\n`` alone; blank lines are no rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import jiter

from neat_data.errors import InputError
from neat_data.sources.row import Columns, RawRow, Unusable
from neat_data.sources.shapes.literals import unique

BOM = b"\xef\xbb\xbf"
# An array, or the object that LMFlow, Online-RLHF and others put around one.
_OPENING = re.compile(r"""\s*(\{\s*("type"\s*:\s*"[^"]*"\s*,\s*)?"(?:instances|data)"\s*:\s*)?\[\s*""")


def lines(stream: BinaryIO, start: int = 0) -> Iterator[RawRow]:
    """The rows of JSON Lines; a line that is no JSON object becomes a `RawRow` with its problem.

    Args:
        start: the byte at which to begin, one of `starts`.
    """
    if start:
        stream.seek(start)
    for number, line in enumerate(stream):
        line = line.removeprefix(BOM) if number == 0 and not start else line
        line = line.rstrip(b"\r\n")
        if line.strip():
            yield _line(line)


def starts(stream: BinaryIO, every: int) -> Iterator[tuple[int, int]]:
    """(rows before, byte) of every `every`-th row, and of the file's end; the lines are counted, not read."""
    rows = byte = 0
    for line in stream:
        if line.removeprefix(BOM if byte == 0 else b"").strip():
            if rows % every == 0:
                yield rows, byte
            rows += 1
        byte += len(line)
    yield rows, byte


def _line(line: bytes) -> RawRow:
    try:
        columns = jiter.from_json(line, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
        if isinstance(columns, dict):
            return RawRow(line.decode(), columns)
    except ValueError:
        pass  # what this fast reader refuses, the standard library's may still take; it says what is wrong
    return _checked(line)


def _checked(line: bytes) -> RawRow:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return RawRow(line, problem=Unusable("not_utf8", f"byte {error.start} of the line"))
    return _row(text)


def _row(text: str) -> RawRow:
    try:
        return RawRow(text, columns=_object(text))
    except Unusable as problem:
        return RawRow(text, problem=problem)


def _object(text: str) -> Columns:
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of too many digits
        raise Unusable("not_json", str(error)) from None
    if not isinstance(value, dict):
        raise Unusable("not_json", f"the line holds {_kind(value)}, not an object")
    if "\\u" in text:
        _check_unicode(value)
    return value


def _kind(value: Any) -> str:
    return {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")


def _check_unicode(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Unusable("bad_unicode", f"lone surrogate U+{ord(error.object[error.start]):04X}") from None


_DECODER = json.JSONDecoder(object_pairs_hook=unique)


def array(stream: BinaryIO) -> Iterator[RawRow]:
    """The elements of a JSON array, each with the text it stood in; InputError where the array is broken.

    The file is held in memory whole, as arrays are not made for streaming.
    """
    try:
        text = stream.read().removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the JSON array is not UTF-8 at byte {error.start}; write it as JSON Lines") from None
    for start, end in _elements(text):
        yield _row(text[start:end])


def opens_array(head: bytes) -> bool:
    """Whether a file that begins with `head` is an array, or an object around one (`{"instances": [`)."""
    return _OPENING.match(head.removeprefix(BOM).decode(errors="replace")) is not None


def _elements(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every element of the array that `text` is."""
    opening = _OPENING.match(text)
    if opening is None:
        raise InputError("no JSON array begins here")
    position = opening.end()
    while text[position : position + 1] != "]":
        try:
            _, end = _SPANS.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken(position, str(error)) from None
        yield position, end
        position = _blank(text, end)
        if text[position : position + 1] not in (",", "]"):
            raise _broken(position, "no comma follows")
        if text[position] == ",":
            position = _blank(text, position + 1)
    if text[position + 1 :].strip() != ("}" if opening[1] else ""):
        raise _broken(position, "other text follows its end")


def _broken(position: int, why: str) -> InputError:
    return InputError(f"the JSON array is broken after {position:,} characters ({why}).\nIs the file cut short?")


_SPANS = json.JSONDecoder()


def _blank(text: str, position: int) -> int:
    """The first position at or after `position` that holds no JSON whitespace."""
    while text[position : position + 1] in (" ", "\t", "\r", "\n") and position < len(text):
        position += 1
    return position
