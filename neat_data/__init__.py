"""Preference datasets for aligning language models: score, look, grow, export."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset

    __version__: str
else:

    def __getattr__(name: str) -> str:
        """`__version__` is that of what is installed; reading it takes imports that `--help` can do without."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("neat-align")


__all__ = ["__version__", "open"]


def open(path: str) -> PreferenceDataset:
    """Open the dataset folder (or fsspec URL) `path` for reading.

    Raises:
        neat_data.errors.InputError: `path` is not a dataset written by this project.
    """
    from neat_data.store.dataset import PreferenceDataset

    return PreferenceDataset.open(path)
