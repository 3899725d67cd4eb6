"""Engines opened by what the user asked for: the one module that knows all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neat_data.scoring.engine import Engine, EngineSpec, LocalEngine


@contextmanager
def opened(spec: EngineSpec, folder: Path) -> Iterator[Engine]:
    """The engine that `spec` names; it ends with the block.

    Args:
        folder: what every worker must see; the caller holds it.

    Raises:
        InputError: Ray is not installed, or of another version than the cluster's; no such cluster.
    """
    if spec.engine == "local":
        yield LocalEngine(spec.workers)
        return
    from neat_data.scoring.ray_engine import RayEngine

    engine = RayEngine(spec, folder)
    try:
        yield engine
    finally:
        engine.close()
