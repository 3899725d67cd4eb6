"""The recipes for clusters: Slurm's scripts run with stand-ins for its commands, KubeRay's is read."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.clusters import accidents
from tests.support.killing import ROOT, contents

CLUSTER = ROOT / "pipelines" / "cluster"
# What Slurm's commands do here: a node is this machine, and every step runs on it.
STAND_INS = {
    "srun": 'while [[ "$1" == --* ]]; do case "$1" in --overlap) shift;; *) shift 2;; esac; done; exec "$@"',
    "scontrol": "echo here; echo here",
    "hostname": f"exec {sys.executable} -c 'import ray; print(ray.util.get_node_ip_address())'",
    "neat-data": f'exec {sys.executable} -m neat_data "$@"',
    "ray": f'exec {sys.executable} -m ray.scripts.scripts "$@"',
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which Slurm's commands are the stand-ins."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def score(tmp_path: Path) -> list[str]:
    """A command that scores, but for its folder."""
    rows = [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(10)]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    return ["score", str(source), "--reward-model", accidents(tmp_path / "reward"), "--shard-rows", "3"]


def run(*command: object, environment: dict[str, str]) -> None:
    subprocess.run(list(map(str, command)), env=environment, cwd=ROOT, check=True)


@pytest.mark.slow
def test_the_tasks_of_an_array_make_the_dataset(tmp_path: Path, slurm: dict[str, str], score: list[str]) -> None:
    jobs = tmp_path / "jobs"
    run("neat-data", *score, "--out", jobs, "--phase", "plan", environment=slurm)
    said = {"SOURCE": score[1], "MODEL": score[3], "DATASET": str(jobs), "OPTIONS": "--shard-rows 3"}
    for task in ("1", "0"):
        own = {"SLURM_ARRAY_TASK_ID": task, "SHARDS_PER_TASK": "2"}
        run("bash", CLUSTER / "score_array.sbatch", environment={**slurm, **said, **own})
    run("neat-data", *score, "--out", jobs, "--phase", "finish", environment=slurm)
    run("neat-data", *score, "--out", tmp_path / "alone", environment=slurm)
    assert contents(jobs) == contents(tmp_path / "alone")


@pytest.mark.slow
def test_ray_over_the_nodes_of_a_job(tmp_path: Path, slurm: dict[str, str], score: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    own = {"SLURM_JOB_NODELIST": "here", "SLURM_CPUS_PER_TASK": "1", "RAY_PORT": str(port)}
    run("bash", CLUSTER / "ray.sbatch", *score, "--out", tmp_path / "ray", environment={**slurm, **own})
    run("neat-data", *score, "--out", tmp_path / "alone", environment=slurm)
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")


def test_the_ray_job_has_the_fields_of_kuberays_schema() -> None:
    schema = json.loads((ROOT / "tests/data/kuberay/rayjob.schema.json").read_text())
    job = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    validator = Draft202012Validator(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(job)] == []
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replica"] = "8"
    (error,) = validator.iter_errors(job)
    assert "'replica' was unexpected" in error.message


def test_the_ray_job_names_what_it_needs_and_the_version_that_is_pinned() -> None:
    text = (CLUSTER / "rayjob.yaml").read_text()
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    (group,) = cluster["workerGroupSpecs"]
    assert f"--workers {group['replicas']}" in job["spec"]["entrypoint"]
    for pod in (cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]):
        (container,) = pod["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
