"""The model that an adapter belongs to, known by the hash of its weights: no path is followed on a file's word."""

from __future__ import annotations

from pathlib import Path

from neat_data.errors import InputError
from neat_data.models import places
from neat_data.models.weights import ModelSource, identity_of


def noted_place(weights: str | None) -> str | None:
    """Where earlier commands of the user found a model of these weights; it may be gone since."""
    return places.noted("policy", {"weights": weights}).get("model") if weights else None


def noted_base(weights: str | None) -> str | None:
    """The folder noted for these weights, where it still has them."""
    noted = noted_place(weights)
    return noted if noted is not None and _weights(noted) == weights else None


def require_base(adapter: str, named: str, weights: str | None) -> None:
    """Raise InputError where the folder `named` holds other weights than those that `adapter` was trained on.

    Args:
        weights: their hash; None where the adapter does not say it.
    """
    there = _weights(named)
    if there is not None and there != (weights or there):
        raise InputError(
            f"is not the model that {adapter} was trained on (it has other weights)", field="base", value=named
        )


def _weights(folder: str) -> str | None:
    """The hash of a folder's weights; None where there is no model."""
    if not (Path(folder) / "config.json").is_file():
        return None
    return identity_of(ModelSource.parse(folder))["weights"]
