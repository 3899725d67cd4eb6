"""A scored sample of the project's own data."""

from __future__ import annotations

from tests.support.scored_sample import scored_sample

__all__ = ["scored_sample"]
