"""Rows of ten thousand turns or with texts of 5 MB take memory in proportion to their size."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from neat_data.sources import Row, open_source


def _pair(turns: int, characters: int) -> str:
    said = "".join(f"\n\nHuman: q{n}{'x' * characters}\n\nAssistant: a{n}{'y' * characters}" for n in range(turns))
    asked = f"{said}\n\nHuman: And?\n\nAssistant:"
    return json.dumps({"chosen": f"{asked} Good.", "rejected": f"{asked} Bad."}) + "\n"


def _peak(path: Path, row: str) -> float:
    """Bytes held at most while a file of one row is read, over the file's own."""
    path.write_text(row)
    tracemalloc.start()
    (read,) = open_source(str(path)).rows()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(read, Row)
    assert read.messages[-1].content == "And?"
    return peak / path.stat().st_size


@pytest.mark.parametrize(("few", "many"), [((500, 10), (5_000, 10)), ((2, 125_000), (2, 1_250_000))])
def test_ten_times_the_row_is_ten_times_the_memory(tmp_path: Path, few: tuple[int, int], many: tuple[int, int]) -> None:
    assert _peak(tmp_path / "many.jsonl", _pair(*many)) < 2 * _peak(tmp_path / "few.jsonl", _pair(*few))
