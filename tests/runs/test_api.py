"""The Python API on tiny models: what it loads, prints, logs and returns."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import neat_data as nd
from tests.support.killing import ROOT
from tests.support.random_models import random_model

SOURCE = ROOT / "data" / "sample" / "helpful.train.jsonl"
HEAVY = {"torch", "polars", "pyarrow", "numpy", "transformers", "pydantic", "rich"}


def test_importing_the_packages_loads_nothing_heavy() -> None:
    code = f"import sys, neat_data, neat_train; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "[]\n"


def test_a_dataset_grows_and_is_handed_on_by_functions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "neat_data")
    out, reward, policy = tmp_path / "made", random_model("tiny-reward"), random_model("tiny-policy")
    scored = nd.score(SOURCE, out=out, reward_model=reward, dtype="float32", limit=6, progress=False)
    assert not scored.already
    dataset = nd.open(out)
    assert nd.score(str(SOURCE), out=str(out), reward_model=str(reward), dtype="float32", limit=6).already

    grown = nd.expand(dataset, policy=policy, prompts="neat:positive", max_new_tokens=6, limit=3, temperature=0.5)
    row = json.loads(SOURCE.read_text().splitlines()[0])
    (tmp_path / "experts.jsonl").write_text(json.dumps({**row, "chosen": f"{row['chosen']} Rinse it twice."}))
    given = nd.add_responses(out, tmp_path / "experts.jsonl")
    nd.rescore(out, reward_model=nd.RewardModelSpec(str(reward), dtype="bfloat16"), name="again")
    assert (grown.round, given.round, given.counts["responses"]) == (1, 2, 1)
    assert nd.open(out).responses == dataset.responses + grown.counts["responses"] + 1
    assert nd.open(out).models == ("reward", "again")

    assert nd.stats(out, report=tmp_path / "page.html").counts.records == 6
    assert nd.export(out, to="rrhf", out=tmp_path / "rows.jsonl").rows == 6
    assert nd.compact(out, tmp_path / "compact").rounds == 2
    assert nd.verify(tmp_path / "compact").ok
    assert [r.query_id for r in nd.open(tmp_path / "compact")] == [r.query_id for r in dataset]

    assert any(record.getMessage().startswith("policy tiny-policy") for record in caplog.records)
    assert capfd.readouterr() == ("", "")
