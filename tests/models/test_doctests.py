"""The examples in docstrings, a test a module. Their modules are imported when they run, as some take seconds."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def modules() -> list[str]:
    """Modules of the packages with an example in them, by name."""
    files = (path for package in ("neat_data", "neat_train") for path in (ROOT / package).rglob("*.py"))
    names = [path.relative_to(ROOT).with_suffix("") for path in files if ">>> " in path.read_text()]
    return sorted(".".join(name.parts).removesuffix(".__init__") for name in names)


@pytest.mark.parametrize("module", modules())
def test_examples_of_docstrings_give_what_they_say(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed, "see above"
