"""A real Ray on this machine: the bytes of one process, whatever of it dies, and errors that say what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.sampler import SamplerSpec, Sampling
from neat_data.prompts.sets import load_prompts
from neat_data.rounds.expand import ExpandRequest, expand
from neat_data.rounds.finish import Scoring
from neat_data.rounds.sampling import Draws
from neat_data.scoring.engine import EngineSpec
from neat_data.scoring.request import ScoreRequest
from neat_data.scoring.rescore import RescoreRequest, rescore
from neat_data.scoring.score import score
from tests.support.clusters import accidents, two_nodes
from tests.support.killing import ROOT, contents
from tests.support.random_models import random_model

pytestmark = pytest.mark.slow
RAY = EngineSpec("ray", workers=2)


def source(folder: Path, accident: str) -> Path:
    """Thirty rows, one of them broken; the query of the tenth asks for an accident."""
    rows = [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": "no " * n} for n in range(1, 31)]
    rows[9]["prompt"] = f"accident: {accident}"
    path = folder / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]))
    return path


def request_of(folder: Path, accident: str) -> ScoreRequest:
    """To be scored by a function that has that accident, and has had it where the folder is `alone`."""
    reward = RewardModelSpec(accidents(folder / "reward"), device="cpu")
    return ScoreRequest(str(source(folder, accident)), folder / "ray", reward, shard_rows=4)


def undisturbed(request: ScoreRequest) -> dict[str, bytes]:
    """The bytes of a run in this process, without any accident."""
    alone = request.out.with_name("alone")
    marks = [request.out.parent / "reward" / f"{name}.happened" for name in ("worker", "driver", "node")]
    for mark in marks:
        mark.touch()
    score(replace(request, out=alone))
    for mark in marks:
        mark.unlink()
    return contents(alone)


def test_two_actors_one_killed_make_the_same_bytes(tmp_path: Path) -> None:
    request = request_of(tmp_path, "worker")
    expected = undisturbed(request)
    summary = score(replace(request, engine=RAY))
    assert contents(request.out) == expected
    assert summary.counts["rejected"] == {"not_json": 1}
    assert summary.cluster is not None
    assert summary.cluster.tried_again == (2,)
    assert sum(worker.rows for worker in summary.cluster.workers) == 31
    assert score(replace(request, engine=RAY)).already


def test_a_lost_node_is_done_without(tmp_path: Path) -> None:
    request = request_of(tmp_path, "node")
    rows = Path(request.source)
    rows.write_text(rows.read_text().replace("question", "accident: node"))  # whatever shard that node gets
    expected = undisturbed(request)
    with two_nodes() as address:
        summary = score(replace(request, engine=replace(RAY, ray_address=address)))
    assert contents(request.out) == expected
    assert summary.cluster is not None
    assert len(summary.cluster.tried_again) == 1


def test_the_command_again_completes_what_a_killed_driver_began(tmp_path: Path) -> None:
    request = request_of(tmp_path, "driver")
    expected = undisturbed(request)
    assert request.reward is not None
    command = [sys.executable, "-m", "neat_data", "score", request.source, "--reward-model", request.reward.model]
    options = ["--out", str(request.out), "--device", "cpu", "--shard-rows", "4", "--engine", "ray", "--workers", "2"]
    driver = subprocess.Popen([*command, *options, "--quiet"], cwd=ROOT)
    (tmp_path / "reward" / "driver.pid").write_text(str(driver.pid))
    assert driver.wait() == -9
    assert not (request.out / "README.md").exists()
    again = subprocess.run([*command, *options, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["cluster"]["tried_again"] == []
    assert contents(request.out) == expected


def test_rescore_and_expand_make_the_bytes_of_one_process(tmp_path: Path) -> None:
    model = RewardModelSpec(accidents(tmp_path / "reward"), device="cpu")
    rows = source(tmp_path, "none")
    score(ScoreRequest(str(rows), tmp_path / "alone", model, shard_rows=8))
    shutil.copytree(tmp_path / "alone", tmp_path / "ray")
    policy = SamplerSpec(str(random_model("tiny-policy")), device="cpu")
    draws = Draws(load_prompts("neat"), Sampling(max_new_tokens=4))
    for name, engine in (("alone", EngineSpec()), ("ray", RAY)):
        rescore(RescoreRequest(tmp_path / name, "again", model, engine))
        expand(ExpandRequest(tmp_path / name, policy, draws, Scoring(reward=model, engine=engine)))
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")


def test_a_ray_of_another_version_is_refused(tmp_path: Path) -> None:
    request = request_of(tmp_path, "none")
    other = "import ray; ray.__version__ = '1.0'; from neat_data.cli import main; main()"
    assert request.reward is not None
    options = ["--reward-model", request.reward.model, "--out", str(request.out), "--engine", "ray"]
    with two_nodes() as address:
        command = [sys.executable, "-c", other, "score", request.source, *options, "--ray-address", address]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert f"--ray-address {address}: cannot be joined" in run.stderr
    assert "1.0" in run.stderr
