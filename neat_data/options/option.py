"""How an option is declared: a field of a frozen dataclass, `name: Annotated[type, Option("what it is")] = default`.

What several verbs share is a base class of theirs, so that the constructor has a keyword for every option. The types
are those of Python; the module of such a class evaluates them (no `from __future__ import annotations`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from neat_data.errors import InputError

T = TypeVar("T")
_NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Option:
    """What is told of an option beside its name, type and default.

    Attributes:
        help: what it is, as `--help` and the docstring say it; `{name}` stands for another option.
        min, max: bounds of a number.
        unset: what holds where None or nothing is said.
        flag: what is typed for it; None: its name with hyphens.
        metavar: what `--help` shows for its value; None: its type.
        typed: whether the command line has it, too.
    """

    help: str
    min: float | None = None
    max: float | None = None
    unset: str | None = None
    flag: str | None = None
    metavar: str | None = None
    typed: bool = True

    __is_annotated_types_grouped_metadata__ = True  # so that a pydantic field is bounded, too

    def __iter__(self) -> Iterator[Any]:
        """The bounds, as pydantic reads them."""
        from annotated_types import Ge, Le

        if self.min is not None:
            yield Ge(self.min)
        if self.max is not None:
            yield Le(self.max)


@dataclass(frozen=True)
class Argument(Option):
    """An option that is typed by its place, without a flag."""


@dataclass(frozen=True)
class Declared:
    """An option of a verb: its name in Python, its type there, its default (`MISSING` where it must be said)."""

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that a value may have, without None."""
        union = get_origin(self.type) in (Union, UnionType)
        return tuple(kind for kind in (get_args(self.type) if union else (self.type,)) if kind is not NoneType)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words to choose from; () where it is no choice."""
        return get_args(self.kinds[0]) if len(self.kinds) == 1 and get_origin(self.kinds[0]) is Literal else ()

    @property
    def flag(self) -> str:
        """What is typed for it."""
        if isinstance(self.option, Argument):
            return self.name.upper()
        return self.option.flag or f"--{self.name.replace('_', '-')}"

    def check(self, value: Any) -> None:
        """Raise InputError where the value is outside of the bounds or none of the words."""
        if value is None:
            return
        least, most = self.option.min, self.option.max
        if least is not None and value < least:
            raise InputError(f"must be at least {least}", field=self.name, value=value)
        if most is not None and value > most:
            raise InputError(f"must be at most {most}", field=self.name, value=value)
        if self.choices and value not in self.choices:
            words = ", ".join(map(repr, self.choices))
            raise InputError(f"choose one of {words}", field=self.name, value=repr(value))


def declared(name: str, annotated: Any, default: Any) -> Declared:
    """One option from the parts of its declaration."""
    type, option = get_args(annotated)
    return Declared(name, type, default, option)


@cache
def options_of(kind: type) -> tuple[Declared, ...]:
    """The options of a class: those without a keyword, its own, then those of its bases in their order."""
    known = {field.name: field for field in fields(kind)}
    by_place = [name for name, field in known.items() if not field.kw_only]
    own_first = [name for base in kind.__mro__ for name in inspect.get_annotations(base)]
    names = dict.fromkeys([*by_place, *own_first])
    return tuple(declared(name, known[name].type, known[name].default) for name in names)


def checked(options: T) -> T:
    """The same options.

    Raises:
        InputError: one is out of bounds, or no word that it takes.
    """
    kind: Any = type(options)
    for each in options_of(kind):
        each.check(getattr(options, each.name))
    return options


def named(text: str, names: Mapping[str, str]) -> str:
    """A help text with the options that it speaks of as `names` has them."""
    return _NAME.sub(lambda match: names.get(match[1], match[1]), text)
