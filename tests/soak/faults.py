"""The faults, by name: each does one harm to a stage and says how that ended, or None where it did not come about."""

from __future__ import annotations

import errno
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.soak.machine import Disk, Ended, Forks, Hurt
from tests.soak.stages import REMADE, Client, Command, Places, Review

# `detected`: a command, or `verify`, said what was wrong; `died`: the process that was killed is gone, and could not
# say so; `unharmed`: the command went through as if nothing had been.
Outcome = Literal["detected", "died", "unharmed"]
_UNSPOKEN = ("Traceback (most recent", "This was not expected")


class Wrong(Exception):
    """Something that must not be: an end without a word, damage that nobody saw, a wrong refusal."""


@dataclass
class Scene:
    """What a fault acts on.

    Attributes:
        disk: None where none could be mounted.
        extra_row: a line that a source may get more.
        through: whether the stage's last run came to its end.
    """

    stage: Command
    places: Places
    forks: Forks
    disk: Disk | None
    draw: random.Random
    extra_row: str
    through: bool = False

    def run(self, hurt: Hurt | None = None) -> Ended:
        """Run the stage's command."""
        ended = self.stage.run(self.forks, hurt)
        self.through = ended.status == 0
        return ended

    def step(self) -> int:
        """A step of Python's on files, within what an undisturbed run makes."""
        return self.draw.randint(1, max(1, self.stage.steps))

    def verify(self, folder: Path) -> Ended:
        return self.forks.start(["neat-data", "verify", str(folder)], folder).wait()


def told(ended: Ended) -> Outcome:
    """How a command that met an error ended: it must have gone through, or have said what was wrong."""
    if ended.status == 0:
        return "unharmed"
    if ended.status == -signal.SIGALRM:
        raise Wrong(f"it hangs: {ended.said.strip()[-600:]}")
    if ended.status < 0:
        return "died"
    if "error: " not in ended.said or any(words in ended.said for words in _UNSPOKEN):
        raise Wrong(f"exit status {ended.status} without a word of what is wrong: {ended.said.strip()[-600:]}")
    return "detected"


def driver_killed(scene: Scene) -> Outcome | None:
    """SIGKILL before a step on files."""
    ended = scene.run(Hurt(step=scene.step()))
    return told(ended) if ended.fired else None


def worker_killed(scene: Scene) -> Outcome | None:
    """SIGKILL of one of two worker processes, once some shards are there."""
    running = scene.stage.start(scene.forks, None, ("--workers", "2"))
    shards = scene.draw.randint(0, 3)
    killed = False
    while not killed and _alive(running.pid):
        workers = running.workers()
        there = len(list(scene.stage.makes.glob(REMADE[scene.stage.name][0])))
        if workers and there >= shards:
            killed = _kill(scene.draw.choice(workers))
        time.sleep(0.01)
    ended = running.wait()
    if killed and ended.status == 0 and "worker process died" in ended.said:
        return "detected"
    return told(ended) if killed else None


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _kill(pid: int) -> bool:
    import os

    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def call_fails(number: int) -> Callable[[Scene], Outcome | None]:
    """A call of the system's on files fails with this error, once."""

    def fault(scene: Scene) -> Outcome | None:
        call = scene.draw.randint(1, max(1, scene.stage.calls))
        ended = scene.run(Hurt(call=call, failure=number))
        return told(ended) if ended.fired else None

    return fault


def full_disk(scene: Scene) -> Outcome | None:
    """The disk has room for a part of what the command writes."""
    assert scene.disk is not None
    with scene.disk.full(scene.draw.randint(0, 1 << scene.draw.randint(12, 20))):
        ended = scene.run()
    if ended.status and not any(words in ended.said for words in ("disk is full", "No space left")):
        raise Wrong(f"a full disk is not told: {ended.said.strip()[-600:]}")
    return None if ended.status == 0 else told(ended)


def read_only(scene: Scene) -> Outcome | None:
    """The file system may be read alone."""
    assert scene.disk is not None
    with scene.disk.read_only():
        ended = scene.run()
    return None if ended.status == 0 else told(ended)  # a command that had nothing to write is right to go through


def two_writers(scene: Scene) -> Outcome | None:
    """The same command again, while the first is held at a step on files."""
    if isinstance(scene.stage, Review):
        return _two_servers(scene, scene.stage)
    first = scene.stage.start(scene.forks, Hurt(step=scene.step(), act="stop"))
    held = first.wait()
    if not held.stopped:
        told(held)
        return None
    second = scene.run()
    first.signal(signal.SIGCONT)
    ended = first.wait()
    outcomes = {told(second), told(ended)}
    if outcomes == {"detected"}:
        raise Wrong(f"neither of two writers went through: {second.said.strip()[-300:]} {ended.said.strip()[-300:]}")
    return "detected" if "detected" in outcomes else "unharmed"


def _two_servers(scene: Scene, review: Review) -> Outcome:
    """Two pages, each of a server of its own, send the same verdicts: each of them counts once."""
    verdicts = review.sent or review.verdicts()
    servers = [review.start(scene.forks) for _ in range(2)]
    clients = [Client(server) for server in servers]
    for client in clients:
        client.enter()
    for number, verdict in enumerate(verdicts):
        clients[number % 2].post(verdict)
        if number % 3 == 0:
            clients[(number + 1) % 2].post(verdict)
    for server in servers:
        server.signal(signal.SIGTERM)
        server.wait()
    return "unharmed"


def source_changed(scene: Scene) -> Outcome | None:
    """What the command reads changes under it at a step on files, and is put back after its end."""
    source, line = _changing(scene)
    before = source.read_bytes() if source.exists() else None
    ended = scene.run(Hurt(step=scene.step(), act="append", file=str(source), line=line))
    outcome = first = told(ended)
    if ended.fired and scene.draw.random() < 0.5:  # the same command while it is still changed
        outcome = told(scene.run())
    if before is None:
        source.unlink(missing_ok=True)
    else:
        source.write_bytes(before)
    if (first, outcome) == ("detected", "unharmed"):
        return _another_source(scene)
    return outcome if ended.fired else None


def _another_source(scene: Scene) -> Outcome:
    """What was begun with the changed source, and is whole, must not be taken for that of the source as it was."""
    if told(scene.run()) != "detected":
        raise Wrong("what was made of another source is gone on with")
    shutil.rmtree(scene.stage.makes)
    return "detected"


def _changing(scene: Scene) -> tuple[Path, str]:
    """A file that the stage reads, and a line that is added to it."""
    if scene.stage.name == "score":
        return scene.places.source, scene.extra_row
    import neat_data as nd

    response = nd.open(scene.places.dataset)[0].responses[-1].response_id
    return scene.places.journal, f'{{"event":"late","response_id":"{response}","verdict":"drop"}}'


def _damaged(scene: Scene, harm: Callable[[Path], None]) -> Outcome | None:
    """Harm a file that the stage has made, have it found, and do what the message says."""
    stage = scene.stage
    if stage.name == "fit":
        return _checkpoint_damaged(scene, harm)
    if not scene.through and (ended := scene.run()).status:
        raise Wrong(f"an undisturbed run failed: {ended.said.strip()[-600:]}")
    scene.through = False
    file = scene.draw.choice([path for pattern in REMADE[stage.name] for path in sorted(stage.makes.glob(pattern))])
    harm(file)
    found = scene.verify(stage.makes)
    name = file.relative_to(stage.makes).as_posix()
    named = [line for line in found.said.splitlines() if line.startswith("wrong: ") and name in line]
    if found.status != 1 or not named:
        raise Wrong(f"`verify` does not name {name}: {found.said.strip()[-600:]}")
    if others := [line for line in found.said.splitlines() if line.startswith("wrong: ") and name not in line]:
        raise Wrong(f"`verify` blames others for {name}: {others[0]}")
    _remove_as_told(stage, file)
    return "detected"


def _remove_as_told(stage: Command, file: Path) -> None:
    """The shard goes, with its rejects; the same command makes both anew."""
    if file.suffix == ".jsonl":
        shard = stage.makes / "round-0000" / f"{file.stem}.arrow"
        shard.unlink(missing_ok=True)
    file.unlink()


def _checkpoint_damaged(scene: Scene, harm: Callable[[Path], None]) -> Outcome | None:
    """Kill a run behind its first checkpoint, and harm the newest: it must not be gone on from."""
    stage = scene.stage
    shutil.rmtree(stage.makes, ignore_errors=True)
    scene.run(Hurt(step=scene.draw.randint(stage.steps // 3, stage.steps)))
    whole = sorted(stage.makes.glob("checkpoint-*/complete.json"))
    if not whole or (stage.makes / "result.json").exists():
        return None
    newest = max((path.parent for path in whole), key=lambda path: int(path.name.partition("-")[2]))
    harm(scene.draw.choice([newest / "adapter_model.safetensors", newest / "optimizer.pt"]))
    ended = scene.run()
    if ended.status:
        return told(ended)
    return "detected" if newest.name in ended.said else "unharmed"


def truncated(scene: Scene) -> Outcome | None:
    """A file that was committed has lost its end."""
    return _damaged(scene, lambda path: _cut(path, scene.draw.random()))


def flipped(scene: Scene) -> Outcome | None:
    """One bit of a file that was committed is another."""
    return _damaged(scene, lambda path: _flip(path, scene.draw))


def _cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


FAULTS: dict[str, Callable[[Scene], Outcome | None]] = {
    "driver killed": driver_killed,
    "worker killed": worker_killed,
    "server killed": driver_killed,
    "full disk": full_disk,
    "truncated file": truncated,
    "flipped bit": flipped,
    "clock set back": call_fails(0),
    "read-only folder": read_only,
    "two writers": two_writers,
    "source changed": source_changed,
    "ENOSPC": call_fails(errno.ENOSPC),
    "EIO": call_fails(errno.EIO),
    "EINTR": call_fails(errno.EINTR),
}
OF_THE_SHIM = ("clock set back", "ENOSPC", "EIO", "EINTR")
OF_THE_DISK = ("full disk", "read-only folder")
