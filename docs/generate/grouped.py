"""Docstrings that describe several arguments in one entry (`low, high: ends of the interval`), one entry a name."""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +\S.*)*)", re.MULTILINE)


class Grouped(griffe.Extension):
    """What mkdocstrings loads: it knows an argument by its own entry alone."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = apart(obj.docstring.value)


def apart(docstring: str) -> str:
    """A docstring in which every name has an entry.

    >>> print(apart("    low, high: the ends.\\n    value: it."))
        low: the ends.
        high: the ends.
        value: it.
    """
    return ENTRY.sub(_entries, docstring)


def _entries(found: re.Match[str]) -> str:
    indent, names, text = found.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))
