"""Laps over the commands, with faults: each is recovered from, and what comes out is held against an undisturbed run.

A fault is the least frequent one so far of those that fit the stage. What it left is gone on from at once, or takes the
next fault on top; then the same command runs to its end and everything must be as without any fault. The report is
written after every fault.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.faults import FAULTS, OF_THE_DISK, OF_THE_SHIM, Scene, Wrong
from tests.soak.machine import COUNTING, ROOT, Disk, Forks
from tests.soak.stages import ROWS, Command, Places, made, stages

FAULTS_A_STAGE = {"score": 4, "expand": 3, "rescore": 7, "review": 7, "fit": 2, "compact": 12}
BAD_ROWS = ('{"chosen": 3, "rejected": "no dialogue"}', "{ no JSON")
COUNTS = ("injected", "detected", "died", "unharmed", "recovered", "rows_lost")


@dataclass
class Report:
    """What is committed; `tally[kind]` has the names of `COUNTS`."""

    seed: int
    tally: dict[str, Counter[str]]
    skipped: dict[str, str]
    wrong: list[dict[str, str]] = field(default_factory=list)
    by_stage: dict[str, Counter[str]] = field(default_factory=dict)
    commands: int = 0
    laps: int = 0
    started: float = field(default_factory=time.monotonic)
    equal: bool | None = None
    verified: str = ""

    def least(self) -> int:
        """How often the rarest fault was injected."""
        return min((counts["injected"] for counts in self.tally.values()), default=0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        faults = {kind: {name: counts[name] for name in COUNTS} for kind, counts in self.tally.items()}
        total = {name: sum(counts[name] for counts in self.tally.values()) for name in COUNTS}
        return {
            "seed": self.seed,
            "seconds": round(time.monotonic() - self.started),
            "laps": self.laps,
            "commands": self.commands,
            "faults": faults,
            "total": total,
            "skipped": self.skipped,
            "by_stage": {stage: dict(sorted(counts.items())) for stage, counts in self.by_stage.items()},
            "verified": self.verified,
            "equal": self.equal,
            "wrong": self.wrong,
        }


@dataclass
class Campaign:
    """The whole of it, in `folder`.

    Attributes:
        places: on the disk that is full or read-only at times.
        out: where the report goes.
        say: told of every fault.
    """

    folder: Path
    places: Places
    forks: Forks
    disk: Disk | None
    report: Report
    draw: random.Random
    out: Path
    say: Callable[[str], None]
    expected: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, folder: Path, root: Path, disk: Disk | None, forks: Forks, seed: int, out: Path, say: Callable[[str], None]
    ) -> Campaign:
        """A campaign that has not run anything yet."""
        skipped = dict.fromkeys(OF_THE_DISK if disk is None else (), "no file system could be mounted")
        skipped |= dict.fromkeys(OF_THE_SHIM if forks.shim is None else (), "no C compiler was found")
        tally: dict[str, Counter[str]] = {kind: Counter() for kind in FAULTS if kind not in skipped}
        report = Report(seed, tally, skipped)
        return cls(folder, Places(root), forks, disk, report, random.Random(seed), out, say)

    def run(self, seconds: float, least: int) -> Report:
        """Laps until the time is over and every fault was injected `least` times.

        Returns:
            The report, which is written to `out`, too.
        """
        order = stages(self.places)
        self._undisturbed(order)
        begun = time.monotonic()

        def on() -> bool:
            return time.monotonic() - begun < seconds or self.report.least() < least

        while on():
            self._write_source()
            for stage in order:
                self._stage(stage, on)
            self._end_of_lap(order)
        return self.report

    def _write_source(self) -> None:
        for folder in (self.places.dataset, self.places.run, self.places.compacted):
            shutil.rmtree(folder, ignore_errors=True)
        self.places.source.write_text("".join(f"{row}\n" for row in (*_rows()[:ROWS], *BAD_ROWS)))

    def _undisturbed(self, order: list[Command]) -> None:
        self._write_source()
        so_far = self.forks.seconds
        for stage in order:
            ended = stage.run(self.forks, COUNTING)
            if ended.status:
                raise RuntimeError(f"{stage.name} fails undisturbed: {ended.said}")
            stage.steps, stage.calls = ended.steps, ended.calls
            self.expected[stage.name] = made(stage, self.places)
            took, so_far = self.forks.seconds - so_far, self.forks.seconds
            self.say(f"{stage.name}: {ended.steps} steps and {ended.calls} calls on files, {took:.1f} s")

    def _stage(self, stage: Command, on: Callable[[], bool]) -> None:
        """Faults of one stage, and its end as without them."""
        before = self.folder / "before"
        shutil.rmtree(before, ignore_errors=True)
        if stage.makes.exists():
            shutil.copytree(stage.makes, before)
        scene = Scene(stage, self.places, self.forks, self.disk, self.draw, _rows()[ROWS])
        pending: list[str] = []
        for _ in range(FAULTS_A_STAGE[stage.name]):
            if not on():
                break
            kind = self._next(stage)
            pending += [kind] * self._inject(kind, scene, before)
            if pending and (scene.through or self.draw.random() < 0.35):
                self._settle(scene, pending, before)
                pending = []
                self._put_back(scene, before)
        self._settle(scene, pending, before)

    def _next(self, stage: Command) -> str:
        """The fault that came least often of those that this stage is given."""
        kinds = [kind for kind in stage.kinds if kind in self.report.tally]
        rarest = min(self.report.tally[kind]["injected"] for kind in kinds)
        return self.draw.choice([kind for kind in kinds if self.report.tally[kind]["injected"] == rarest])

    def _inject(self, kind: str, scene: Scene, before: Path) -> bool:
        """Whether it came about; what must not be is written down, and the stage begins anew."""
        try:
            outcome = FAULTS[kind](scene)
        except Wrong as wrong:
            self._wrong(scene, kind, str(wrong), before)
            return False
        if outcome is None:
            return False
        self.report.tally[kind].update(("injected", outcome))
        self.report.by_stage.setdefault(scene.stage.name, Counter())[kind] += 1
        self.say(f"{scene.stage.name}: {kind}: {outcome}")
        self._write()
        return True

    def _settle(self, scene: Scene, pending: list[str], before: Path) -> None:
        """The same command to its end: all must be as without faults."""
        ended = None if scene.through else scene.run()
        differing = self._differing(scene.stage)
        if scene.through and not differing:
            for kind in pending:
                self.report.tally[kind]["recovered"] += 1
            return
        lost = self._rows_lost(scene)
        for kind in pending[:1]:
            self.report.tally[kind]["rows_lost"] += lost
        failed = ended is not None and ended.status
        what = f"exit status {ended.status}: {ended.said.strip()[-600:]}" if failed else f"differ: {differing}"
        self._wrong(scene, ", ".join(pending) or "none", what, before)
        if (again := scene.run()).status:
            raise RuntimeError(f"{scene.stage.name} fails undisturbed: {again.said}")

    def _differing(self, stage: Command) -> list[str]:
        now, then = made(stage, self.places), self.expected[stage.name]
        return sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))

    def _rows_lost(self, scene: Scene) -> int:
        """Source rows of which neither a label nor a reject is left, where the dataset can be read."""
        ended = self.forks.start(["neat-data", "stats", str(self.places.dataset), "--json"], self.folder).wait()
        if ended.status:
            return 0
        import neat_data as nd

        dataset = nd.open(self.places.dataset)
        labels = sum(len(record.labels) for record in dataset)
        rejects = sum(len(dataset.rejects(number)) for number in dataset.manifest.round(0).numbers())
        return ROWS + len(BAD_ROWS) - labels - rejects

    def _put_back(self, scene: Scene, before: Path) -> None:
        """The stage's folder as it was before it."""
        shutil.rmtree(scene.stage.makes, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, scene.stage.makes)
        scene.through = False

    def _wrong(self, scene: Scene, kind: str, what: str, before: Path) -> None:
        kept = self.folder / f"wrong-{len(self.report.wrong):03d}"
        if scene.stage.makes.exists():
            shutil.copytree(scene.stage.makes, kept)
        self.report.wrong.append({"stage": scene.stage.name, "fault": kind, "what": what})
        self.say(f"WRONG {scene.stage.name}: {kind}: {what} (kept in {kept})")
        self._put_back(scene, before)
        self._write()

    def _end_of_lap(self, order: list[Command]) -> None:
        """`verify` of both datasets, and equality with the undisturbed run."""
        checked = [
            (name, self.forks.start(["neat-data", "verify", str(getattr(self.places, name))], self.folder).wait())
            for name in ("dataset", "compacted")
        ]
        self.report.verified = "; ".join(ended.said.strip().splitlines()[-1] for _, ended in checked)
        equal = not self._differing(order[-1]) and all(ended.status == 0 for _, ended in checked)
        self.report.equal = equal and self.report.equal is not False
        self.report.laps += 1
        self.say(f"lap {self.report.laps}: equal {equal}; {self.report.verified}")
        self._write()

    def _write(self) -> None:
        self.report.commands = self.forks.runs
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps(self.report.to_dict(), indent=1) + "\n")


def _rows() -> list[str]:
    return (ROOT / "data/sample/helpful.train.jsonl").read_text().splitlines()
