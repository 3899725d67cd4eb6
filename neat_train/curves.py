"""RUN/curves.png: what a run did, drawn from its metrics.jsonl."""

from __future__ import annotations

from pathlib import Path


def draw(run: Path) -> Path:
    """Draw the curves of the run; returns the picture's path."""
    raise NotImplementedError
