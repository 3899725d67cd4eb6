"""Options that are declared once, as Python has them: signatures and docstrings of what is made of them.

mkdocstrings reads source, where such a function takes one class of options.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import UnionType
from typing import Any, Union, get_args, get_origin

import griffe

from neat_data.options.keywords import entries
from neat_data.options.option import Declared, options_of


class Options(griffe.Extension):
    """What mkdocstrings loads."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Called for every function that was read."""
        if any(str(each.value).startswith(("keywords(", "described(")) for each in func.decorators):
            function = getattr(import_module(func.module.path), func.name)
            func.parameters = griffe.Parameters(*map(_parameter, inspect.signature(function).parameters.values()))
            func.docstring = griffe.Docstring(inspect.getdoc(function) or "", parent=func)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called for every class: what it has from classes of options stands beside its own attributes."""
        if cls.docstring is not None and any(str(base).endswith("Loading") for base in cls.bases):
            cls.docstring.value += f"\n{entries(list(_inherited(getattr(import_module(cls.module.path), cls.name))))}"
            for parameter in cls.parameters:
                if (
                    isinstance(parameter.annotation, griffe.ExprSubscript)
                    and str(parameter.annotation.left) == "Annotated"
                ):
                    parameter.annotation = _bare(parameter.annotation)


def _bare(annotated: griffe.ExprSubscript) -> griffe.Expr | str:
    """Of `Annotated[type, …]` the type."""
    return annotated.slice.elements[0] if isinstance(annotated.slice, griffe.ExprTuple) else annotated


def _inherited(kind: type) -> Iterator[Declared]:
    """The options that a class has from others and does not declare anew."""
    own = inspect.get_annotations(kind)
    for base in kind.__bases__:
        yield from (each for each in options_of(base) if each.name not in own)


def _parameter(parameter: inspect.Parameter) -> griffe.Parameter:
    empty = parameter.default is inspect.Parameter.empty
    return griffe.Parameter(
        parameter.name,
        annotation=_written(parameter.annotation),
        kind=griffe.ParameterKind[parameter.kind.name.lower()],
        default=None if empty else repr(parameter.default),
    )


def _written(annotation: Any) -> str:
    """A type as one writes it.

    >>> _written(Union[str, "Path", None])
    'str | Path | None'
    """
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(_written, get_args(annotation)))
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"ForwardRef\('(\w+)'\)", r"\1", text).replace("NoneType", "None")
    return re.sub(r"\b[a-z_.]+\.(?=[A-Z])", "", text)
