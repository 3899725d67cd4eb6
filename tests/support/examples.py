"""How many examples a property draws where many cases each draw their own."""

from __future__ import annotations

from hypothesis import settings


def a_quarter() -> settings:
    """A quarter of the examples that the chosen profile draws."""
    return settings(max_examples=max(1, settings.default.max_examples // 4))
