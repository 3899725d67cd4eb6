"""Datasets of a few records, made by hand."""

from __future__ import annotations

from tests.support.datasets import made_dataset, record_of

__all__ = ["made_dataset", "record_of"]
