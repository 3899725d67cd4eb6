"""The verbs on an S3 server: what they leave there is byte for byte what they leave in a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import neat_data as nd
from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModelSpec
from neat_data.scoring.engine import EngineSpec
from neat_data.scoring.numbers import Numbers
from neat_data.scoring.request import ScoreRequest
from neat_data.scoring.rescore import RescoreRequest, rescore
from neat_data.scoring.score import score
from tests.support.clusters import accidents
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


def _request(folder: Path, out: str | Path, query: str = "a question") -> ScoreRequest:
    """Twenty rows in five shards; the fourth row has a query of its own."""
    rows = [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(20)]
    rows[3]["prompt"] = query
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reward = RewardModelSpec(accidents(folder / "reward"), device="cpu")
    return ScoreRequest(str(folder / "rows.jsonl"), out, reward, shard_rows=4)


@pytest.mark.slow
def test_two_actors_one_killed_leave_the_same_bytes(bucket: Bucket, tmp_path: Path, monkeypatch, files):
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    request = _request(tmp_path, tmp_path / "made", "accident: worker")
    (tmp_path / "reward" / "worker.happened").touch()
    score(request)
    (tmp_path / "reward" / "worker.happened").unlink()
    summary = score(replace(request, out=bucket.url(), engine=EngineSpec("ray", workers=2)))
    assert summary.cluster is not None
    assert summary.cluster.tried_again == (0,)
    assert bucket.files() == files(tmp_path / "made")


def test_jobs_of_an_array_want_a_folder(bucket: Bucket, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    request, some = _request(tmp_path, bucket.url()), Numbers.read("0-1")
    for refused in ({"shards": some}, {"phase": "finish"}):
        with pytest.raises(InputError, match=r"^out s3://.*a folder that all machines see, not at a URL"):
            score(replace(request, **refused))
    score(request)
    assert request.reward is not None
    with pytest.raises(InputError, match=r"^dataset s3://.*a folder that all machines see, not a URL"):
        rescore(RescoreRequest(bucket.url(), "again", request.reward, shards=some))
