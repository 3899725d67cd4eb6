"""Results as frozen dataclasses, and as the JSON that a file holds of them.

A result is made of dataclasses, mappings and tuples. `to_dict` keeps the order of its fields; one that is `WHERE_KNOWN`
is left out where it is None. `from_dict` is the inverse, by pydantic: what is missing or of another type is told by its
place, and what is unknown, from a later version, is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Self

WHERE_KNOWN = {"left out where it is None": True}
"""Metadata of a field that a file does not have where it is None."""


def parts(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, as they are."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


class Plain:
    """A frozen dataclass with an equivalent of plain Python."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, in the order of the fields."""
        return _plain(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: something is missing, or of another type; the message says where.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        values = ((each, getattr(value, each.name)) for each in fields(value))
        return {each.name: _plain(part) for each, part in values if part is not None or each.metadata != WHERE_KNOWN}
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
