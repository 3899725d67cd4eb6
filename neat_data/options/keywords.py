"""Functions of one class of options as functions of keywords, which editors, type checkers and `help` understand."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter
from typing import Any, ParamSpec, TypeVar

from neat_data.options.option import Declared, checked, named, options_of

P = ParamSpec("P")
Options = TypeVar("Options")
Result = TypeVar("Result")


def keywords(options: Callable[P, Options]) -> Callable[[Callable[[Options], Result]], Callable[P, Result]]:
    """Let a verb be called with the fields of its options.

    Its docstring gets a section `Args` from their help, in front of `Raises`.
    """

    def decorate(function: Callable[[Options], Result]) -> Callable[P, Result]:
        signature = _signature(options, inspect.signature(function).return_annotation)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            bound = signature.bind(*args, **kwargs)
            return function(checked(options(*bound.args, **bound.kwargs)))

        call.__signature__ = signature  # type: ignore[attr-defined]
        return described(options)(call)

    return decorate


def described(options: Any) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Give a function's docstring the section of `keywords`."""

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        before, raises, behind = (inspect.getdoc(function) or "").partition("Raises:")
        function.__doc__ = f"{before}Args:\n{entries(options_of(options))}\n\n{raises}{behind}"
        return function

    return decorate


def _signature(options: Any, returns: Any) -> inspect.Signature:
    by_place = {field.name for field in fields(options) if not field.kw_only}
    parameters = [_parameter(each, each.name in by_place) for each in options_of(options)]
    return inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind), return_annotation=returns)


def _parameter(each: Declared, by_place: bool) -> Parameter:
    kind = Parameter.POSITIONAL_OR_KEYWORD if by_place else Parameter.KEYWORD_ONLY
    default = Parameter.empty if each.default is MISSING else each.default
    return Parameter(each.name, kind, default=default, annotation=each.type)


def entries(options: Sequence[Declared]) -> str:
    """An entry of a docstring for each option."""
    names = {each.name: f"`{each.name}`" for each in options}
    return "\n".join(_entry(each, names) for each in options)


def _entry(each: Declared, names: dict[str, str]) -> str:
    unset = f" None: {each.option.unset}." if each.option.unset and each.default is None else ""
    text = f"{each.name}: {named(each.option.help + unset, names)}"
    return textwrap.fill(text, 108, initial_indent="    ", subsequent_indent="        ")
