"""`KEY=VALUE` as users write it for a back end, to keyword arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from neat_data.errors import InputError


def model_arguments(pairs: Sequence[str], option: str = "--model-arg") -> dict[str, Any]:
    """`KEY=VALUE` pairs, values read as YAML scalars.

    Raises:
        InputError: one is no such pair; `option` is where it was given.
    """
    arguments = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError(f"{option} takes KEY=VALUE, not {pair!r}")
        arguments[key] = yaml.safe_load(value)
    return arguments
