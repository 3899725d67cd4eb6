"""`KEY=VALUE` as users write it for a back end, to keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neat_data.errors import InputError

if TYPE_CHECKING:
    from neat_data.store.documents import Arguments


OURS = ("tree_attention", "fused_kernels")  # what we ourselves take of a model's arguments


def for_the_model(arguments: Arguments) -> Arguments:
    """What is left of `arguments` for the model itself."""
    return {name: value for name, value in arguments.items() if name not in OURS}


def model_arguments(pairs: Sequence[str | Mapping[str, Any]], field: str = "model_args") -> Arguments:
    """`KEY=VALUE` pairs, values read as YAML scalars; a mapping, which a settings file may hold, as it is.

    Raises:
        InputError: one is no such pair; `field` is where it was given.
    """
    arguments: Arguments = {}
    for pair in pairs:
        arguments |= pair if isinstance(pair, Mapping) else _argument(pair, field)
    return arguments


def _argument(pair: str, field: str) -> Arguments:
    from neat_data.options.file import parse

    key, separator, value = pair.partition("=")
    if not separator or not key:
        raise InputError("takes KEY=VALUE", field=field, value=repr(pair))
    return {key: parse(value)}
