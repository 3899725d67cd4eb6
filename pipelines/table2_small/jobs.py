"""Jobs: commands of `neat-data` and `neat-train`, several at a time, each a process with its share of the cores.

A job that has ended leaves its commands and its exit status behind, and is not run again; the same job with other
commands is. What one prints goes to a log of its own.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from neat_data.cores import threads_each
from neat_data.errors import InputError, RunError
from neat_train.training.divergence import Diverged
from pipelines.processes import Processes

Command = tuple[str, ...]

# glibc gives large tensors back to the system and fetches them anew in every step; TRL's DPO lost a third of its time.
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


@dataclass(frozen=True, slots=True)
class Job:
    """Commands that run one behind the other, each `(module, argument, …)`.

    `may_diverge`: a training run that is stopped because it diverges is an outcome, not an error.
    """

    name: str
    commands: tuple[Command, ...]
    may_diverge: bool = False


@dataclass(frozen=True, slots=True)
class Workers:
    """`count` jobs at a time; what they leave lies under `out`."""

    out: Path
    count: int
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        """Raises InputError: not one job at a time."""
        if self.count < 1:
            raise InputError(f"--workers {self.count}: at least 1")

    def run(self, jobs: Sequence[Job]) -> None:
        """Run those that have not ended yet.

        After one has failed no other begins; those that run beside it come to their end.

        Raises:
            RunError: jobs failed.
        """
        failed: list[str] = []

        def run_next(job: Job) -> None:
            if not failed and (message := self._run(job, processes)):
                failed.append(message)

        waiting = [job for job in jobs if not self._ended(job)]
        with ThreadPoolExecutor(self.count) as pool, Processes() as processes:
            list(pool.map(run_next, waiting))
        if failed:
            raise RunError("\n".join(failed))

    def _ended(self, job: Job) -> bool:
        file = self._file(job, "done")
        return file.is_file() and json.loads(file.read_bytes())["commands"] == [list(one) for one in job.commands]

    def _run(self, job: Job, processes: Processes) -> str | None:
        """What is to be said of its failure; None where it ended."""
        began, status = time.monotonic(), 0
        with self._file(job, "log").open("a") as log:
            for command in job.commands:
                print("$ python -m", shlex.join(command), file=log, flush=True)
                status = processes.run([sys.executable, "-m", *command], self._environment, log)
                if status:
                    break
        self.say(f"{job.name}: {'done' if not status else f'status {status}'}, {time.monotonic() - began:.0f} s")
        if status and not (job.may_diverge and status == Diverged.exit_status):
            return f"{job.name} failed with status {status}; its log: {self._file(job, 'log')}"
        record = {"commands": job.commands, "status": status, "seconds": round(time.monotonic() - began)}
        self._file(job, "done").write_text(json.dumps(record))
        return None

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **_ALLOCATION, "OMP_NUM_THREADS": str(threads_each(self.count))}

    def _file(self, job: Job, kind: str) -> Path:
        folder = self.out / "jobs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{job.name}.{kind}"
