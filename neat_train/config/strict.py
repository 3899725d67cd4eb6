"""What every section of settings is: frozen, described field by field, and without a place for a misspelt name."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from neat_data.options.option import Option


class Settings(BaseModel):
    """Unknown keys are refused, so that a misspelt one is never a default without a word."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """A field that has a flag, too, is described by what `--help` says of it."""
        for field in cls.model_fields.values():
            for option in field.metadata:
                if isinstance(option, Option):
                    field.description = option.help
