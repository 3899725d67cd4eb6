"""What `neat-train fit` ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console


def figures(run: Path) -> dict[str, Any]:
    """The figures of a run, JSON-able: held-out reward and perplexity at its start and its end, and what it used."""
    raise NotImplementedError


def print_fit_summary(run: Path, found: dict[str, Any], console: Console, *, already: bool = False) -> None:
    """One short table of `figures(run)`, where the run is, and what to do next."""
    raise NotImplementedError
