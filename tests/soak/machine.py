"""What the soak stands on: a small disk of its own, the shim, and commands that run and may be hurt."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DISK_BYTES = 64 << 20
DAYS_BACK = 3


@dataclass(frozen=True)
class Hurt:
    """One fault that a command is given.

    Attributes:
        step: before which step of Python's on files `act` happens; None for none, 0 to count them.
        act: `kill`, `stop` or `append` (`line` to `file`).
        call: which call on files the shim makes fail; None for none, 0 to count them.
        failure: the error number; 0 sets the clock back.
    """

    step: int | None = None
    act: str = "kill"
    file: str = ""
    line: str = ""
    call: int | None = None
    failure: int = errno.EIO


COUNTING = Hurt(step=0, call=0)


@dataclass(frozen=True)
class Ended:
    """How a command ended. `fired`: the fault came to pass; `stopped`: it waits for SIGCONT."""

    status: int
    said: str
    fired: bool
    steps: int = 0
    calls: int = 0
    stopped: bool = False


@dataclass
class Running:
    """A command that runs in a child of the forking process."""

    forks: Forks
    pid: int
    output: Path
    token: Path

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def wait(self) -> Ended:
        """Its end, or that it stopped itself."""
        answer = self.forks.ask({"do": "wait", "pid": self.pid})
        self.forks.seconds += answer.get("seconds", 0.0)
        counts = [self.token.with_suffix(f".{name}") for name in ("steps", "calls")]
        steps, calls = (int(path.read_text()) if path.exists() else 0 for path in counts)
        stopped = answer.get("stopped", False)
        return Ended(answer.get("status", 0), self.said, self.token.exists(), steps, calls, stopped)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def workers(self) -> list[int]:
        """Process ids of the workers that it has started."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        children = [int(pid) for pid in listed.read_text().split()] if listed.exists() else []
        return [pid for pid in children if b"spawn_main" in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass
class Forks:
    """The forking process.

    Attributes:
        logs: holds what commands said.
        shim: None where no compiler was found.
        runs, seconds: commands that were started, and what they took of a processor.
    """

    logs: Path
    shim: Path | None
    _process: subprocess.Popen[str] = field(init=False)
    runs: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        if self.shim is not None:
            environment["LD_PRELOAD"] = str(self.shim)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.forks"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def start(self, command: list[str], below: Path, hurt: Hurt | None = None) -> Running:
        """Start a command.

        Args:
            below: the folder whose files the fault is about.
            hurt: its fault; None for none.
        """
        self.runs += 1
        token = self.logs / f"{self.runs:05d}.fired"
        output = token.with_suffix(".txt")
        hurt = hurt or Hurt()
        request: dict[str, Any] = {"do": "start", "command": command, "output": str(output), "environment": {}}
        if hurt.step is not None:
            told = {"step": hurt.step, "act": hurt.act, "file": hurt.file, "line": hurt.line}
            request["watch"] = {
                **told,
                "prefix": str(below),
                "token": str(token),
                "count": str(token.with_suffix(".steps")),
            }
        if hurt.call is not None and self.shim is not None:
            request["environment"] = _shim_environment(hurt, below, token)
        return Running(self, self.ask(request)["pid"], output, token)

    def close(self) -> None:
        self._process.communicate()


def _shim_environment(hurt: Hurt, below: Path, token: Path) -> dict[str, str]:
    told = {"PREFIX": below, "CALL": hurt.call, "ERRNO": hurt.failure, "BACK": DAYS_BACK * 86_400, "TOKEN": token}
    told |= {"COUNT": token.with_suffix(".calls")} if hurt.call == 0 else {}
    return {f"SOAK_{name}": str(value) for name, value in told.items()}


def compiled(folder: Path) -> Path | None:
    """The shim; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    shim = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
    return shim


@dataclass(frozen=True)
class Disk:
    """A small file system of the soak's own, so that it can be full or read-only without harm to anybody else."""

    root: Path

    @contextmanager
    def full(self, free: int) -> Iterator[None]:
        """Leave `free` bytes."""
        ballast = self.root / "ballast"
        room = os.statvfs(self.root)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - free))
        try:
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def _remount(self, how: str) -> None:
        """Busy is what a worker makes it that has not heard yet of its parent's death."""
        command = ["mount", "-o", f"remount,{how}", str(self.root)]
        while subprocess.run(command, capture_output=True).returncode:
            time.sleep(0.1)


@contextmanager
def disk(root: Path) -> Iterator[Disk | None]:
    """A disk mounted at `root`; None where this process may not mount one, and `root` is a plain folder."""
    root.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "soak", str(root)], check=False)
    try:
        yield Disk(root) if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(root)], check=True)


def in_own_mounts(arguments: list[str]) -> list[str]:
    """The same program in a mount namespace of its own, as whoever may mount there; as it is where there are none."""
    lone = ["unshare", "--user", "--map-root-user", "--mount"] if os.geteuid() else ["unshare", "--mount"]
    able = shutil.which("unshare") and subprocess.run([*lone, "true"], capture_output=True).returncode == 0
    return [*lone, *arguments] if able else arguments
