"""Every test that docs/tested.md names for a fault is there."""

from __future__ import annotations

import re

from tests.support.killing import ROOT

NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def test_every_fault_has_its_test() -> None:
    section = (ROOT / "docs/tested.md").read_text(encoding="utf-8").split("## Faults that were found")[1]
    rows = [line for line in section.splitlines() if re.match(r"\| (?!fault|---)", line)]
    assert len(rows) > 40
    for row in rows:
        tests = NAMED.findall(row)
        assert tests, row
        for path, name in tests:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\b", text, re.MULTILINE), f"{path}::{name}"
