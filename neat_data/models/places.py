"""Where the user's own models lie, noted in the user's cache folder by what identifies them.

What lies in the folder of a dataset or a run may come from anybody, so it tells no place. A note is found by the hashes
that the dataset or run records; who follows it holds what lies there against the same hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from neat_data.errors import RunError
from neat_data.record import canonical_json
from neat_data.store.atomic import write_atomically
from neat_data.store.cache import cache_folder

Kind = Literal["reward model", "policy"]


def note(kind: Kind, identity: Mapping[str, Any], place: Mapping[str, str]) -> None:
    """Note where a model lies; where the cache folder cannot be written to, nothing is noted.

    Args:
        identity: the hashes that tell the model from others.
        place: JSON-able; its paths are absolute.
    """
    path = _file(kind, identity)
    with suppress(OSError, RunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(canonical_json(dict(place)).encode()))


def noted(kind: Kind, identity: Mapping[str, Any]) -> dict[str, str]:
    """What `note` was last given for this identity; empty where there is nothing."""
    try:
        return {str(name): str(value) for name, value in json.loads(_file(kind, identity).read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def absolute(place: str) -> str:
    """A path that exists as one that holds everywhere; anything else as it is."""
    return str(Path(place).resolve()) if Path(place).exists() else place


def _file(kind: Kind, identity: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(canonical_json([kind, dict(identity)]).encode()).hexdigest()
    return cache_folder() / "places" / f"{name}.json"
