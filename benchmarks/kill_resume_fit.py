"""Kill an online run of `neat-train fit` at random moments, resume it each time, and compare with an undisturbed run.

    python benchmarks/kill_resume_fit.py DATASET --policy MODEL --kills 10 [--method neat-pp]

Moments are drawn over the whole run but its start, so they fall into sampling, scoring, training and saving; what the
run had on the disk is told of each. Compared are the trained weights, the newest checkpoint's optimiser, and every
file of the run's own dataset, byte for byte. On a CPU in float32.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from kill_resume import contents

# Rounds of two steps and a checkpoint every third, so that a block is open behind some of the checkpoints.
SETTINGS = ("max_steps=8", "save_steps=3", "records_per_step=4", "rounds.queries=8", "max_response=32")
RUN = ("--limit", "64", "--set", "eval_strategy=no", "--set", "rounds.drop=[]", "--set", "learning_rate=1e-3")


def start(dataset: str, policy: str, method: str, out: Path) -> subprocess.Popen[bytes]:
    """The command that is killed."""
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [
        "fit",
        dataset,
        "--policy",
        policy,
        "--method",
        method,
        "--out",
        str(out),
        "--device",
        "cpu",
        *RUN,
        *options,
    ]
    return subprocess.Popen([sys.executable, "-m", "neat_train", *command, "--quiet"])


def result(run: Path) -> dict[str, bytes]:
    """What must be equal. The dataset names the run's folder nowhere; metrics tell times."""
    newest = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    files = {name: (run / name).read_bytes() for name in ("adapter_model.safetensors", "adapter_config.json")}
    files["optimizer"] = (newest / "optimizer.pt").read_bytes()
    return files | {f"dataset/{name}": content for name, content in contents(run / "dataset").items()}


def on_disk(run: Path) -> str:
    """How far a run had come when it was killed."""
    checkpoints = sorted(int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*"))
    waiting = sorted(path.name for path in run.glob("online/*.arrow"))
    return f"checkpoints {checkpoints}, waiting {waiting}"


def main(
    dataset: str,
    policy: Annotated[str, typer.Option()],
    method: str = "neat-pp",
    kills: int = 10,
    seed: int = 0,
    json_out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Exit status 1 where a byte differs."""
    draw, moments, states = random.Random(seed), [], []
    with tempfile.TemporaryDirectory() as parent:
        begun = time.monotonic()
        if start(dataset, policy, method, Path(parent, "undisturbed")).wait():
            raise typer.Exit(1)
        seconds = time.monotonic() - begun
        expected, folder, equal = result(Path(parent, "undisturbed")), Path(parent, "killed"), True
        while len(moments) < kills:
            process, moment = start(dataset, policy, method, folder), draw.uniform(0.3, 1) * seconds
            try:
                process.wait(moment)
                equal &= result(folder) == expected
                shutil.rmtree(folder)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                moments.append(round(moment, 2))
                states.append(on_disk(folder))
                print(f"killed after {moment:.1f} s: {states[-1]}", flush=True)
        equal &= start(dataset, policy, method, folder).wait() == 0 and result(folder) == expected
    report = {"method": method, "kills": kills, "undisturbed_s": round(seconds, 2), "equal": equal}
    print(json.dumps(report))
    if json_out:
        json_out.write_text(json.dumps({**report, "moments_s": moments, "on_disk": states}, indent=1) + "\n")
    raise typer.Exit(0 if equal else 1)


if __name__ == "__main__":
    typer.run(main)
