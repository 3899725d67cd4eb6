"""How a user names where a dataset lies: a path, or the URL of a place that holds one."""

from __future__ import annotations

import os
import re
from pathlib import Path

DatasetPath = Path | str
"""A folder, or as text the URL of one."""
_ONE_SLASH = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)")  # of a URL that went through `pathlib`


def folder_or_url(path: str | os.PathLike[str]) -> DatasetPath:
    """What a user gave, as a path or, where it is a URL, as text.

    >>> folder_or_url("s3://bucket/data/"), folder_or_url(Path("s3://bucket/data")), folder_or_url("data").name
    ('s3://bucket/data', 's3://bucket/data', 'data')
    """
    return url_of(path) or Path(path)


def url_of(path: str | os.PathLike[str]) -> str | None:
    """A URL without slashes at its end; None for a path."""
    text = str(path)
    text = _ONE_SLASH.sub(r"\1://", text, count=1) if _ONE_SLASH.match(text) else text
    return text.rstrip("/") if "://" in text else None
