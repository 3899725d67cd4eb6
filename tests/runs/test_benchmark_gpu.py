"""`benchmarks/gpu.py` end to end with its small shape: every part gives figures, and none of them failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # minutes, of a benchmark

ROOT = Path(__file__).resolve().parents[2]
PARTS = "ceilings,scoring,training,compiling,sampling"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--quick", "--device", "cpu", "--repeats", "1", "--limit", "30"]
    command += ["--data", "data/sample/*.train.jsonl", "--parts", PARTS, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=1_800)
    return json.loads(out.read_text())["parts"]


def failures(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [
            f for name, part in value.items() for f in ([str(part)] if name in ("failed", "ended") else failures(part))
        ]
    return [f for part in value for f in failures(part)] if isinstance(value, list) else []


def test_no_part_fails(results: dict[str, Any]) -> None:
    assert list(results) == PARTS.split(",")
    assert failures(results) == []


def test_ways_are_compared_over_the_same_rows(results: dict[str, Any]) -> None:
    runs = {run["way"]: run for run in results["scoring"]["runs"]}
    trees, padded = runs["trees sdpa"], runs["sorted"]
    assert trees["rows"] == padded["rows"]
    assert trees["tokens_run_a_row"] < padded["tokens_run_a_row"]
    speed, tokens = (trees[name] / padded[name] for name in ("rows_per_s", "tokens_run_a_row"))
    assert results["scoring"]["quotients"]["2"] == pytest.approx(speed * tokens, rel=1e-2)


def test_every_way_of_a_step_trains_on_the_same_records(results: dict[str, Any]) -> None:
    runs = results["training"]["runs"]
    assert {run["way"] for run in runs} == {"trees sdpa", "trees sdpa peft", "trees varlen", "sorted", "trl dpo"}
    assert len({run["records"] for run in runs}) == 1
