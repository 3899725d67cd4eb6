"""Small valid records and datasets for the tests of the store."""

from __future__ import annotations

from tests.support.object_server import bucket, s3_server
from tests.support.stores import add_round, commit, dataset, files, make_record, settings, stored, write_dataset

__all__ = [
    "add_round",
    "bucket",
    "commit",
    "dataset",
    "files",
    "make_record",
    "s3_server",
    "settings",
    "stored",
    "write_dataset",
]
