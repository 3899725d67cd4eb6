"""What `fit` is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neat_train.config.settings import FitSettings
from neat_train.losses.own import Own
from neat_train.reports.summary import FitResult


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What `neat-train fit` was asked for.

    Attributes:
        dataset: its folder.
        policy: a folder, a hub id, or the folder of an earlier run.
        out: the run folder.
        base: the model of an adapter that is gone on from, where that says no more of it than a folder.
        own: the user's loss, where the settings' method is that.
    """

    dataset: str
    policy: str
    out: Path
    settings: FitSettings
    trust_remote_code: bool = False
    base: str | None = None
    own: Own | None = None


@dataclass(frozen=True, slots=True)
class FitSummary:
    """What came of it. `already`: the run was finished before."""

    run: Path
    already: bool
    result: FitResult

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"run": str(self.run), "already": self.already, **self.result.to_dict()}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.result._repr_html_()
