"""Preference datasets for aligning language models: score, look, grow, export."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(path: str) -> PreferenceDataset:
    """Open the dataset folder (or fsspec URL) `path` for reading.

    Raises:
        neat_data.errors.InputError: `path` is not a dataset written by this project.
    """
    from neat_data.store.dataset import PreferenceDataset

    return PreferenceDataset.open(path)
