"""An hour of faults: `make soak`, or `python -m tests.soak --minutes 3`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.soak.campaign import Campaign
from tests.soak.machine import Forks, compiled, disk, in_own_mounts

_MARK = "SOAK_IN_OWN_MOUNTS"


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 60,
    least: Annotated[int, typer.Option(help="Go on until every fault was injected so often.")] = 20,
    seed: Annotated[int, typer.Option(help="Decides the schedule.")] = 0,
    json_out: Annotated[Path, typer.Option("--json", help="The report.")] = Path("build/soak.json"),
    keep: Annotated[Path | None, typer.Option(help="Where logs and what went wrong are kept.")] = None,
) -> None:
    """Make a dataset, train on it and fold it, lap by lap, with faults; exit status 1 where anything was lost."""
    if _MARK not in os.environ:
        command = in_own_mounts([sys.executable, "-m", "tests.soak", *sys.argv[1:]])
        os.execvpe(command[0], command, {**os.environ, _MARK: "1"})
    folder = keep or Path(tempfile.mkdtemp(prefix="soak-"))
    logs = folder / "logs"
    logs.mkdir(parents=True)
    with disk(folder / "disk") as mounted:
        forks = Forks(logs, compiled(folder))
        campaign = Campaign.begin(folder, folder / "disk", mounted, forks, seed, json_out, _say)
        report = campaign.run(minutes * 60, least)
        forks.close()
    _say(f"{report.to_dict()['total']}; logs are in {folder}")
    raise typer.Exit(0 if report.equal and not report.wrong else 1)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
