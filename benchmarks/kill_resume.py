"""Kill a scoring run at random moments, resume it each time, and compare the folder with an undisturbed run's.

python benchmarks/kill_resume.py SOURCE --reward-model MODEL --kills 20
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer


def run(source: str, model: str, out: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "neat_data", "score", source, "--reward-model", model, "--out", str(out)]
    return subprocess.Popen([*command, "--workers", str(workers), "--quiet"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def main(
    source: str,
    reward_model: Annotated[str, typer.Option()],
    kills: int = 20,
    seed: int = 0,
    workers: int = 1,
    json_out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """SIGKILL at moments drawn over the time of an undisturbed run; exit status 1 where a byte differs."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = Path(folder, "undisturbed"), Path(folder, "killed")
        start = time.monotonic()
        if run(source, reward_model, undisturbed, workers).wait():
            raise typer.Exit(1)
        seconds = time.monotonic() - start
        moments = []
        while len(moments) < kills:
            process = run(source, reward_model, killed, workers)
            moment = draw.uniform(0, seconds)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                moments.append(round(moment, 3))
                shards = len(list(killed.glob("round-0000/*.arrow")))
                print(f"killed after {moment:.2f} s; {shards} shards are committed", flush=True)
                continue
            print("finished before its kill; the folder is made anew", flush=True)
            if contents(killed) != contents(undisturbed):
                break
            subprocess.run(["rm", "-r", str(killed)], check=True)
        status = run(source, reward_model, killed, workers).wait()
        equal = status == 0 and contents(killed) == contents(undisturbed)
    result = {"kills": len(moments), "moments_s": moments, "undisturbed_s": round(seconds, 2), "equal": equal}
    print(json.dumps(result))
    if json_out:
        json_out.write_text(json.dumps(result, indent=1) + "\n")
    raise typer.Exit(0 if equal else 1)


if __name__ == "__main__":
    typer.run(main)
