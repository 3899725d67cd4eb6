"""The Python of docs/first-day.md runs as it stands, once its names are those of tiny models and a slice of data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.killing import ROOT

MODELS = ROOT / "data" / "models"
SETTINGS = {
    "max_steps": 1,
    "records_per_step": 4,
    "max_length": 256,
    "max_response": 16,
    "rounds": {"max_new_tokens": 8, "drop": []},
    "held_out": {"share": 0.2, "queries": 3, "samples_shown": 1},
}


@pytest.mark.slow
def test_the_python_of_the_first_day_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (ROOT / "data/sample/helpful.train.jsonl").read_text().splitlines()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.jsonl").write_text("\n".join(rows[:16]))
    (tmp_path / "source" / "test.jsonl").write_text("\n".join(rows[16:20]))
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/first-day.md").read_text(), re.DOTALL)
    for name, value, count in (
        ("Anthropic/hh-rlhf", "source", 2),
        ("meta-llama/Meta-Llama-3-8B", str(MODELS / "tiny-policy"), 1),
        ("sfairXC/FsfairX-LLaMA3-RM-v0.1", str(MODELS / "tiny-reward"), 1),
        ("Skywork/Skywork-Reward-V2-Qwen3-8B", str(MODELS / "tiny-reward-heldout"), 1),
        ("cuda", "cpu", 2),
        ("bfloat16", "float32", 1),
        ("vllm", "transformers", 1),
        ("auto", 1, 2),
        ("pipelines/recommended.yaml", "settings.yaml", 1),
    ):
        assert code.count(f'"{name}"') == count
        code = code.replace(f'"{name}"', json.dumps(value))
    code = code.replace("limit=20_000", "limit=4").replace("max_new_tokens=128", "max_new_tokens=8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "first_day"}
    exec(compile(code, "docs/first-day.md", "exec"), names)
    assert (tmp_path / "runs/hh/dpo/eval/test/eval.json").is_file()
    assert len(list((tmp_path / "hh" / "train").glob("round-*"))) == 2
