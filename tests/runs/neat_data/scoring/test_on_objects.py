"""The verbs on an S3 server: what they leave there is byte for byte what they leave in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import neat_data as nd
from tests.support.object_server import Bucket, bucket, s3_server
from tests.support.stores import files

__all__ = ["bucket", "files", "s3_server"]
LENGTH = 'def length(conversations):\n    return [float(len(turns[-1]["content"])) for turns in conversations]\n'


def _verbs(source: Path, model: str, out: str | Path, policy: Path, **spread: Any) -> dict:
    """Score, sample a round, score all of it anew; the figures."""
    nd.score(source, out=out, reward_model=model, shard_rows=8, progress=False, **spread)
    nd.expand(out, policy=policy, reward_model=model, limit=12, max_new_tokens=4, progress=False)
    nd.rescore(out, reward_model=model, name="again", progress=False, **spread)
    assert nd.verify(out).ok
    return nd.stats(out, rank_by="again").to_dict()


@pytest.mark.slow
def test_score_expand_rescore_and_stats_leave_the_same_bytes(bucket: Bucket, tmp_path: Path, monkeypatch, files):
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "length.py").write_text(LENGTH)
    rows = [{"prompt": f"question {n % 17}", "chosen": f"yes {n}", "rejected": "no"} for n in range(20)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    model, policy = f"{tmp_path / 'length.py'}:length", Path("data/models/tiny-policy").resolve()
    local = _verbs(source, model, tmp_path / "made", policy)
    remote = _verbs(source, model, bucket.url(), policy, workers=2)
    assert {**remote, "path": ""} == {**local, "path": ""}
    assert bucket.files() == files(tmp_path / "made")
