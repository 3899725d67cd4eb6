"""RUN/README.md: the model card of a run."""

from __future__ import annotations

from pathlib import Path


def write_card(run: Path) -> Path:
    """Write the card from settings.json, metrics.jsonl and the dataset's manifest; the user's part of it stays."""
    raise NotImplementedError
