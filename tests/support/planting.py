"""Python that tells that it ran, planted where somebody else's dataset or run could have it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CODE = "open({marker!r}, 'w').close()\n\n\ndef rate(conversations):\n    return [0.0 for _ in conversations]\n"


class Planted:
    """A Python file, and whether it was run."""

    def __init__(self, file: Path, marker: Path) -> None:
        self.file, self._marker = file, marker
        file.write_text(_CODE.format(marker=str(marker)))

    def __reduce__(self) -> Any:
        """What unpickling this object runs."""
        return open, (str(self._marker), "w")

    @property
    def ran(self) -> bool:
        """Whether it was run, or unpickled."""
        return self._marker.exists()


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a file of JSON anew, as its author may."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
