"""Declared options as what typer reads, and what it has read as the options of a verb again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, is_dataclass, replace
from inspect import Parameter
from typing import Annotated, Any, get_args, get_origin

import typer

from neat_data.models.arguments import model_arguments
from neat_data.options.option import Argument, Declared, checked, declared, named, options_of


class Parsed:
    """What a function of the command line takes.

    A parameter is an option (`Annotated[type, Option(…)]`), a class of options, or, of such a class, what was said of
    them (`Annotated[dict[str, Any], Class]`).
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._parameters = inspect.signature(function, eval_str=True).parameters
        self._options = {name: _options(parameter) for name, parameter in self._parameters.items()}
        self.options = [each for options in self._options.values() for each in options if each.option.typed]
        self.flags = {each.name: each.flag for each in self.options}

    def flag(self, name: str) -> str:
        """What a user types for the argument that an error is about; what is no option keeps its name."""
        same = f"--{name.replace('_', '-')}"  # of several, an error names one: reward_model of reward_models
        return self.flags.get(name, same if same in self.flags.values() else name)

    def parameters(self) -> list[Parameter]:
        """What typer makes a command of."""
        return [_parameter(each, self.flags) for each in self.options]

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the function is called with, from what typer read.

        Raises:
            InputError: a value is out of bounds.
        """
        read = {each.name: _read(each, values[each.name]) for each in self.options}
        said = {name: value for name, value in read.items() if value is not None}
        arguments: dict[str, Any] = {}
        for name, options in self._options.items():
            of_these = {each.name: said[each.name] for each in options if each.name in said}
            kind = self._parameters[name].annotation
            if is_dataclass(kind):
                arguments[name] = checked(kind(**of_these))  # type: ignore[operator]
            else:
                arguments |= {name: of_these} if _is_said(kind) else of_these
        return arguments


def _options(parameter: Parameter) -> tuple[Declared, ...]:
    """The options that a parameter of a verb stands for."""
    kind = parameter.annotation
    if is_dataclass(kind):
        return options_of(kind)  # type: ignore[arg-type]
    if _is_said(kind):
        return tuple(_unsaid(each) for each in options_of(get_args(kind)[1]))
    return (declared(parameter.name, kind, MISSING if parameter.default is Parameter.empty else parameter.default),)


def _is_said(kind: Any) -> bool:
    """Whether a parameter takes what was said of a class of options."""
    return isinstance(get_args(kind)[1], type)


def _unsaid(each: Declared) -> Declared:
    """The option without a default, which is told in words."""
    if each.default in (None, MISSING, False):
        return replace(each, default=None)
    return replace(each, default=None, option=replace(each.option, unset=str(each.default)))


def _parameter(each: Declared, names: Mapping[str, str]) -> Parameter:
    type, default = _type(each), each.default
    if type is bool:
        default = False
    elif default is MISSING:
        default = Parameter.empty
    elif default is None or isinstance(default, tuple):
        type, default = type | None, None
    annotation = Annotated[type, _info(each, names)]  # type: ignore[valid-type]
    return Parameter(each.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _info(each: Declared, names: Mapping[str, str]) -> Any:
    """The same option as typer has it."""
    option = each.option
    keywords: dict[str, Any] = {"help": named(option.help, names), "metavar": option.metavar}
    if isinstance(option, Argument):
        return typer.Argument(**keywords)
    if _is_mapping(each) or (len(each.kinds) > 1 and _type(each) is str):
        keywords["parser"] = _as_it_is  # a settings file may hold a mapping there, or a number
    return typer.Option(each.flag, min=option.min, max=option.max, show_default=_shown(each, names), **keywords)


def _as_it_is(value: Any) -> Any:
    return value


def _shown(each: Declared, names: Mapping[str, str]) -> bool | str:
    if each.option.unset is not None:
        return named(each.option.unset, names)
    return ", ".join(map(str, each.default)) if isinstance(each.default, tuple) and each.default else True


def _type(each: Declared) -> Any:
    """One type for several: what is a collection is given again and again, what is a mapping by its parts."""
    if _is_mapping(each):
        return list[str]
    for kind in each.kinds:
        if get_origin(kind) in (Iterable, Sequence):
            return list[float] if kind.__args__[0] is float else list[str]
    return each.kinds[0] if len(each.kinds) == 1 else str


def _is_mapping(each: Declared) -> bool:
    return all(get_origin(kind) is Mapping for kind in each.kinds)


def _read(each: Declared, value: Any) -> Any:
    """What was said, as Python has it; None where nothing was."""
    if value in (None, []) or (each.default is None and value is False):
        return None
    return model_arguments(value, each.name) if _is_mapping(each) else value
