"""The settings of `neat-train fit` as a page, from the fields of their classes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.generate.commands import cell, code
from neat_train.config.settings import METHODS, TRAINING, FitSettings

INTRODUCTION = """# Settings of `neat-train fit`

What a file of `--settings` may hold and what `--set NAME=VALUE` takes; inside a section its name stands in front,
`--set loss.beta=0.2`. What is misspelt is refused. Any field of transformers' TrainingArguments goes beside these,
under its own name, except those that the project decides itself; the refusal says which setting stands in its place.
"""


def page() -> str:
    """Markdown of the reference of settings."""
    parts = [INTRODUCTION, *_section("", FitSettings)]
    parts += _mapping("TrainingArguments that have another default", TRAINING)
    for method, settings in METHODS.items():
        if settings:
            parts += _mapping(f"What `--method {method}` sets", _flat(settings))
    return "\n".join(parts)


def _section(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    """A table of a class's own fields, then a section for each field that has fields itself."""
    nested = {name: kinds for name, field in model.model_fields.items() if (kinds := _classes(field.annotation))}
    yield from ("", "| setting | values | default | |", "| --- | --- | --- | --- |")
    for name, field in model.model_fields.items():
        if name not in nested and name != "training":
            yield f"| `{prefix}{name}` | {_values(field)} | {_default(field)} | {cell(field.description or '')} |"
    for name, kinds in nested.items():
        for kind in kinds:
            of = f", kind `{kind.model_fields['kind'].default}`" if len(kinds) > 1 else ""
            yield from ("", f"## `{prefix}{name}`{of}", "", _paragraph(kind.__doc__ or ""))
            yield from _section(f"{prefix}{name}.", kind)


def _paragraph(text: str) -> str:
    """Text that no sign in front makes a list of."""
    return re.sub(r"^([+-]) ", r"\\\1 ", cell(text))


def _classes(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The settings classes of a field: one, several to choose from, or none."""
    kinds = get_args(annotation) or (annotation,)
    return tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def _values(field: FieldInfo) -> str:
    """What a field takes, where it is a choice of words."""
    annotations = (field.annotation, *get_args(field.annotation))
    words = (get_args(each) for each in annotations if get_origin(each) is Literal)
    return ", ".join(f"`{word}`" for word in next(words, ()))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    default = field.get_default(call_default_factory=True)
    return code(default if isinstance(default, str) else json.dumps(default))


def _mapping(heading: str, settings: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## {heading}", "", "| setting | value |", "| --- | --- |")
    for name, value in settings.items():
        yield f"| `{name}` | `{json.dumps(value)}` |"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
