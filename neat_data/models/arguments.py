"""`KEY=VALUE` as users write it for a back end, to keyword arguments."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from neat_data.errors import InputError
from neat_data.store.documents import Arguments


def model_arguments(pairs: Sequence[str], field: str = "model_args") -> Arguments:
    """`KEY=VALUE` pairs, values read as YAML scalars.

    Raises:
        InputError: one is no such pair; `field` is where it was given.
    """
    arguments = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError("takes KEY=VALUE", field=field, value=repr(pair))
        arguments[key] = yaml.safe_load(value)
    return arguments
