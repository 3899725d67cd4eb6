"""Kill a run at random moments, resume it each time, and compare the folder with an undisturbed run's.

python benchmarks/kill_resume.py SOURCE --reward-model MODEL --kills 20                   # kills `score`
python benchmarks/kill_resume.py SOURCE --reward-model MODEL --policy MODEL --limit 200   # kills `expand` on top of it
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class Command:
    """A verb that is killed, on a folder that begins as a copy of `base` (or as nothing)."""

    verb: str
    before: list[str]  # what stands before the folder
    after: list[str]
    base: Path | None = None

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """Run it on `out`."""
        if self.base is not None and not out.exists():
            shutil.copytree(self.base, out)
        command = [sys.executable, "-m", "neat_data", self.verb, *self.before, str(out), *self.after, "--quiet"]
        return subprocess.Popen(command)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def killed_at(command: Command, folder: Path, undisturbed: dict[str, bytes], draw: random.Random, seconds: float):
    """Start the command and kill it at a moment within `seconds`; the moment, or None where it had finished before.

    A folder that was finished is compared and made anew.
    """
    process = command.start(folder)
    moment = draw.uniform(0, seconds)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        shards = len(list(folder.glob("round-*/*.arrow")))
        staged = len(list(folder.glob(".round/0*.arrow")))
        print(f"killed after {moment:.2f} s; {shards} shards are committed, {staged} staged", flush=True)
        return moment
    print("finished before its kill; the folder is made anew", flush=True)
    if contents(folder) != undisturbed:
        raise typer.Exit(1)
    shutil.rmtree(folder)
    return None


def main(
    source: str,
    reward_model: Annotated[str, typer.Option()],
    policy: str | None = None,
    limit: int | None = None,
    shard_rows: int = 512,
    kills: int = 20,
    seed: int = 0,
    workers: int = 1,
    json_out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """SIGKILL at moments drawn over the time of an undisturbed run; exit status 1 where a byte differs."""
    draw = random.Random(seed)
    spread = ["--workers", str(workers)]
    with tempfile.TemporaryDirectory() as parent:
        command = Command(
            "score", [source, "--out"], ["--reward-model", reward_model, "--shard-rows", str(shard_rows), *spread]
        )
        if policy is not None:
            base = Path(parent, "base")
            if command.start(base).wait():
                raise typer.Exit(1)
            limited = [] if limit is None else ["--limit", str(limit)]
            command = Command("expand", [], ["--policy", policy, *limited, *spread], base)
        start = time.monotonic()
        if command.start(Path(parent, "undisturbed")).wait():
            raise typer.Exit(1)
        seconds = time.monotonic() - start
        undisturbed = contents(Path(parent, "undisturbed"))
        folder = Path(parent, "killed")
        moments: list[float] = []
        while len(moments) < kills:
            moment = killed_at(command, folder, undisturbed, draw, seconds)
            moments += [] if moment is None else [round(moment, 3)]
        equal = command.start(folder).wait() == 0 and contents(folder) == undisturbed
    result = {"verb": command.verb, "kills": len(moments), "moments_s": moments}
    result |= {"undisturbed_s": round(seconds, 2), "equal": equal}
    print(json.dumps(result))
    if json_out:
        json_out.write_text(json.dumps(result, indent=1) + "\n")
    raise typer.Exit(0 if equal else 1)


if __name__ == "__main__":
    typer.run(main)
