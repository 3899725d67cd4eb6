"""The two errors a user may see: what they asked for cannot be (2), or it failed while running (1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Self

_FIELD = re.compile(r"\{([a-z_.]+)\}")


class NeatError(Exception):
    """An error written for the person who reads it: what is wrong, where, and what to do, in one or two lines.

    It names arguments as Python has them; `told` names them as somebody else does, the command line by its flags.

    >>> error = InputError("unknown; choose auto, cpu or cuda", field="device", value="tpu", advice="see {dtype} too")
    >>> str(error)
    'device tpu: unknown; choose auto, cpu or cuda\\nsee dtype too'
    >>> error.told(lambda field: f"--{field}")
    '--device tpu: unknown; choose auto, cpu or cuda\\nsee --dtype too'

    Attributes:
        field: the argument that is at fault; None where it is no single one.
        value: what was said there, None where the message does without.
        advice: a last line, in which `{name}` stands for the argument of that name.
    """

    exit_status = 1

    def __init__(self, message: str, *, field: str | None = None, value: Any = None, advice: str | None = None) -> None:
        super().__init__(message)
        self.message, self.field, self.value, self.advice = message, field, value, advice
        self._within: tuple[str, Any] | None = None

    def __str__(self) -> str:
        return self.told(lambda field: field)

    def told(self, name: Callable[[str], str]) -> str:
        """The message, with `name(field)` for every argument that it speaks of."""
        leads = [_lead(field, value, name) for field, value in (self._within or (None, None), (self.field, self.value))]
        advice = with_names(self.advice or "", name)
        return ": ".join(filter(None, [*leads, self.message])) + (f"\n{advice}" if advice else "")

    def renamed(self, names: Mapping[str | None, str | None], advice: str | None = None) -> Self:
        """The same error for a caller whose arguments are called otherwise, with more advice.

        Args:
            names: theirs by those used here; None leaves out the name in front, or stands for there being none.
        """
        lines = [_FIELD.sub(lambda match: f"{{{names.get(match[1]) or match[1]}}}", self.advice or ""), advice]
        advice = "\n".join(filter(None, lines)) or None
        return type(self)(self.message, field=names.get(self.field, self.field), value=self.value, advice=advice)

    def within(self, field: str, value: Any) -> Self:
        """The same error about a part of an argument of the caller."""
        copy = self.renamed({})
        copy._within = (field, value)
        return copy


def with_names(advice: str, name: Callable[[str], str]) -> str:
    """Advice with `name(argument)` in the place of each `{argument}`."""
    return _FIELD.sub(lambda match: name(match[1]), advice)


def _lead(field: str | None, value: Any, name: Callable[[str], str]) -> str:
    return " ".join(str(part) for part in (None if field is None else name(field), value) if part is not None)


class InputError(NeatError):
    """Bad usage or bad input; nothing was started."""

    exit_status = 2


class RunError(NeatError):
    """A failure while running; what was committed stays."""

    exit_status = 1
