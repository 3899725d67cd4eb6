"""Every example runs as it stands, on what the project ships, and is short enough to be read."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.support.killing import ROOT

EXAMPLES = ROOT / "examples"
# Fewer rows and steps than by default, and what is to be read in the end.
SMALLER = {
    "score": (["--limit", "24"], r"24 records, 48 responses.*people and the reward disagree on \d+%.*The widest gap"),
    "expand": (["--limit", "3"], r"round 1 has 6 responses.*negative.*positive"),
    "fit": (["--limit", "24", "--steps", "2"], r"start: reward .*end: reward .*from_pretrained\('.*merged'\)"),
    "evaluate": (["--limit", "4"], r"a: perplexity .*'other'.*b: perplexity .*b has more reward than a: "),
    "custom_reward": (["--limit", "24"], r"custom_reward.py:brevity: .*best response of \d+ of 24 queries"),
    "custom_loss": (["--steps", "3"], r"(loss \d+\.\d+\n){3}"),
}


def test_every_example_is_run_here_and_fits_a_page() -> None:
    lengths = {path.stem: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert set(lengths) == set(SMALLER)
    assert max(lengths.values()) <= 60


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("fit", "evaluate") else ()) for name in SMALLER]
)
def test_an_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options, expected = SMALLER[name]
    monkeypatch.chdir(tmp_path)  # what an example needs it finds from where it stands
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", "made", *options])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    shown = capfd.readouterr()
    assert re.search(expected, shown.out, re.DOTALL), shown.out
    if name != "custom_loss":  # which loads a model by itself
        assert shown.err == ""
