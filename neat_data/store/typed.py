"""JSON that somebody else may have written, made into dataclasses: every field has the type that it declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
_LARGEST = 2**63  # what Arrow and file systems count to


def built(kind: type[T], content: Any) -> T:
    """A dataclass from a JSON object with its fields.

    Raises:
        TypeError, ValueError: it is no object, or has other fields, or a value of another type.
    """
    if not isinstance(content, dict):
        raise TypeError(f"a {type(content).__name__} where {kind.__name__} was expected")
    types = _types(kind)  # type: ignore[arg-type]  # a class is hashable
    for name, value in content.items():
        if name in types and not _fits(value, types[name]):
            raise TypeError(f"{name} is {type(value).__name__} {str(value)[:40]!r}")
    return kind(**content)


def require_counts(content: Mapping[str, Any], numbers: tuple[str, ...], by_reason: tuple[str, ...]) -> None:
    """Raise TypeError where one of these entries is there and is no count, or no object of counts."""
    for name in {*numbers, *by_reason} & content.keys():
        if not _fits(content[name], dict[str, int] if name in by_reason else int):
            raise TypeError(f"{name} is {str(content[name])[:40]!r}")


@cache
def _types(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type out of JSON's, dataclasses, literals, and tuples, dictionaries and unions of these.

    Of a `TypedDict` it is enough to be an object: later versions may write further keys.
    """
    if kind is Any:
        return True
    if is_typeddict(kind):
        return isinstance(value, dict)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, arguments[1]) for each in value.values())
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(each, arguments[0]) for each in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
    return isinstance(value, kind)
