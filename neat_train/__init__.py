"""Training on preference datasets by negative-prompt-driven alignment (NEAT) and the methods it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """`__version__`, which both packages share."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import neat_data

        return neat_data.__version__


__all__ = ["__version__"]
