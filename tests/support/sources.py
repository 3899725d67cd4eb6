"""Small sources of preference pairs, for the tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path


def write_pairs(path: Path, *queries: str) -> None:
    """A JSON Lines file of pairs, one a query; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": query, "chosen": "a", "rejected": "b"} for query in queries]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
