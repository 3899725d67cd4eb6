"""The parts of `README.md` that are ours: keys of its YAML header, and the dataset card between two markers.

Every other byte is the user's, and so are the keys that stand in the header above ours: where the user has set a key,
ours is left out; only a licence that is unknown gives way to one that is known. A header that cannot be read is left
alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands around the parts that a command writes anew."""

    begin: str
    end: str
    keys_begin: str
    keys_end: str

    @classmethod
    def of(cls, command: str) -> Marks:
        """Those of `neat-data`, or of another command with a card of its own."""
        return cls(
            f"<!-- {command}: this part is written anew by {command}; write before or after it -->",
            f"<!-- {command}: end of that part -->",
            f"# {command}: keys from here on are written anew; put yours above, they win",
            f"# {command}: end of those keys",
        )


OURS = Marks.of("neat-data")
BEGIN, END, KEYS_BEGIN, KEYS_END = OURS.begin, OURS.end, OURS.keys_begin, OURS.keys_end
_HEADER = re.compile(rb"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_FOR_THE_USER = ("license",)  # written once, for the user to change
_UNKNOWN = re.compile(r"^license: unknown[ \t]*\r?\n", re.MULTILINE)


def with_body(readme: bytes, card: str, marks: Marks = OURS) -> bytes:
    """`readme` with our part replaced by `card`, or with it added at its end.

    Args:
        readme: what the file holds.
        card: Markdown; its YAML header, where it has one, goes to the top of the file.
        marks: around what is ours.

    >>> with_body(b"mine", "old") == with_body(with_body(b"mine", "older"), "old")
    True
    """
    header, body = _split(card.encode())
    yours, text = _split(readme)
    if header is not None:
        merged = _merged(yours, yaml.safe_load(header), marks)
        if merged is not None:
            return b"---\n" + merged + b"---\n" + _gap(yours, text) + _with_part(text, body.decode(), marks)
    return readme[: len(readme) - len(text)] + _with_part(text, body.decode(), marks)


def _split(content: bytes) -> tuple[bytes | None, bytes]:
    """The YAML between the dashes at the top, None where there is none, and what follows."""
    match = _HEADER.match(content)
    return (match[1], content[match.end() :]) if match else (None, content)


def _merged(header: bytes | None, ours: dict[str, Any], marks: Marks) -> bytes | None:
    """The user's header with our keys below; None where the user's cannot be read."""
    try:
        yours = _without_ours((header or b"").decode(), marks)
        if ours.get("license") not in (None, "unknown"):
            yours = _UNKNOWN.sub("", yours)
        known = yaml.safe_load(yours) or {}
    except (UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(known, dict):
        return None
    first = {key: value for key, value in ours.items() if key in _FOR_THE_USER and key not in known}
    rest = {key: value for key, value in ours.items() if key not in _FOR_THE_USER and key not in known}
    return f"{yours}{_dump(first)}{marks.keys_begin}\n{_dump(rest)}{marks.keys_end}\n".encode()


def _without_ours(header: str, marks: Marks) -> str:
    start, end = header.find(marks.keys_begin), header.find(marks.keys_end)
    if 0 <= start < end:
        header = header[:start] + header[end + len(marks.keys_end) :].lstrip("\r\n")
    return header if not header or header.endswith("\n") else header + "\n"


def _dump(keys: dict[str, Any]) -> str:
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True) if keys else ""


def _gap(header: bytes | None, text: bytes) -> bytes:
    """An empty line below a header that is new."""
    return b"\n" if header is None and not text.startswith((b"\n", b"\r")) else b""


def _with_part(text: bytes, body: str, marks: Marks) -> bytes:
    """`text` with what stands between the markers replaced by `body`, or with both added at its end."""
    inside = re.sub(r"<!-- (?=neat-\w+:)", "&lt;!-- ", body).strip("\n")
    ours = f"{marks.begin}\n{inside}\n{marks.end}".encode()
    start = text.rfind(marks.begin.encode())
    end = text.find(marks.end.encode(), max(start, 0))
    if start >= 0 and end >= 0:
        return text[:start] + ours + text[end + len(marks.end.encode()) :]
    gap = b"" if not text else b"\n" if text.endswith(b"\n") else b"\n\n"
    return text + gap + ours + b"\n"
