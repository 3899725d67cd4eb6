"""The commands of a lap, each with the folder that it makes, how it is run, and what of it must be equal."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.soak.machine import Ended, Forks, Hurt, Running
from tests.support.random_models import random_model

ROWS, SHARD_ROWS = 24, 4
EVENTS = 12
_TIME = re.compile(rb',"time":"[^"]*"')
_OF_A_RUN = ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "tokenizer.json")


@dataclass(frozen=True)
class Places:
    """Where things lie on the soak's disk."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "source.jsonl"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def run(self) -> Path:
        return self.root / "trained"

    @property
    def compacted(self) -> Path:
        return self.root / "folded"

    @property
    def journal(self) -> Path:
        return self.dataset / "reviews" / "ann.jsonl"


@dataclass
class Command:
    """A command that is run again until it is through.

    Attributes:
        name: of the stage.
        command: program, verb and arguments.
        makes: the folder that it writes.
        kinds: names of the faults that it is given.
        steps, calls: how many of each an undisturbed run makes; 0 until it was made.
    """

    name: str
    command: list[str]
    makes: Path
    kinds: tuple[str, ...]
    steps: int = 0
    calls: int = 0

    def run(self, forks: Forks, hurt: Hurt | None = None, more: tuple[str, ...] = ()) -> Ended:
        """Run it to its end, or until it stops itself."""
        return self.start(forks, hurt, more).wait()

    def start(self, forks: Forks, hurt: Hurt | None = None, more: tuple[str, ...] = ()) -> Running:
        return forks.start([*self.command, *more], self.makes, hurt)


# What a stage makes anew: by pattern inside its folder.
REMADE = {
    "score": ("round-0000/*.arrow", "rejects/*.jsonl"),
    "rescore": ("scores/shortest/**/*.arrow",),
    "expand": ("round-0001/*.arrow",),
    "fit": ("checkpoint-*/*.safetensors", "checkpoint-*/optimizer.pt"),
    "compact": ("round-0000/*.arrow", "scores/shortest/*.arrow"),
    "review": (),
}


@dataclass
class Review(Command):
    """Verdicts that a page sends to the server until all of them are acknowledged."""

    sent: list[dict[str, Any]] = field(default_factory=list)

    def run(self, forks: Forks, hurt: Hurt | None = None, more: tuple[str, ...] = ()) -> Ended:
        """One life of the server: it ends when all verdicts are acknowledged, one is refused, or the server is gone."""
        server = self.start(forks, hurt, more)
        answers = Client(server).send(self.sent or self.verdicts())
        if answers.gone:
            return server.wait()
        server.signal(signal.SIGTERM)
        ended = server.wait()
        status = 1 if answers.refused else 0
        return Ended(status, answers.refused or ended.said, ended.fired, ended.steps, ended.calls)

    def verdicts(self) -> list[dict[str, Any]]:
        """The same for every run: made once, of what the dataset holds then."""
        import neat_data as nd

        responses = sorted(r.response_id for record in nd.open(self.makes) for r in record.responses)[:EVENTS]
        words = ("keep", "drop", "keep", "off_prompt")
        self.sent = [
            {"rater": "ann", "event": f"e{n}", "response_id": r, "verdict": words[n % 4], "note": "looked at"}
            for n, r in enumerate(responses)
        ]
        return self.sent


@dataclass
class Answers:
    """What a page was told: the first refusal, and whether the server was gone before all was said."""

    refused: str = ""
    gone: bool = False


class Client:
    """A page that is open: it sends each verdict until it is acknowledged."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._root = ""

    def send(self, verdicts: list[dict[str, Any]]) -> Answers:
        if not self.enter():
            return Answers(gone=True)
        answers = Answers()
        for verdict in verdicts:
            refusal = self.post(verdict)
            if refusal is not None:
                answers.refused, refusal = refusal, self.post(verdict)  # a page offers to send again
            if refusal == "":
                return Answers(answers.refused, True)
        return answers

    def post(self, verdict: dict[str, Any]) -> str | None:
        """Send one; None where it was acknowledged, else what was said, "" where nobody answered."""
        try:
            answer = self._http.post(f"{self._root}/verdict", json=verdict)
        except httpx.TransportError:
            return ""
        return None if answer.status_code == 200 else f"error: {answer.text}"

    def enter(self) -> bool:
        """Take the address that the server printed; False where it died before."""
        while (match := re.search(r"open (http://\S+)", self.server.said)) is None:
            if not Path(f"/proc/{self.server.pid}").exists() or _is_zombie(self.server.pid):
                return False
            time.sleep(0.02)
        try:
            self._http.get(match[1])
        except httpx.TransportError:
            return False
        self._root = match[1].partition("/?")[0]
        return True


def _is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def stages(places: Places) -> list[Command]:
    """The commands of a lap in order."""
    dataset = str(places.dataset)
    cpu = ("--device", "cpu", "--quiet")
    reward = ("--reward-model", str(random_model("tiny-reward")), "--shard-rows", str(SHARD_ROWS), "--dtype", "float32")
    shortest = ("--reward-model", f"{Path(__file__).with_name('shortest.py')}:shortest", "--name", "shortest")
    policy = ("--policy", str(random_model("tiny-policy")))
    sampled = ("--limit", "12", "--max-new-tokens", "4", "--dtype", "float32")
    told = {"max_steps": 3, "save_steps": 1, "records_per_step": 2, "max_response": 24, "max_length": 160}
    sets = [part for name, value in told.items() for part in ("--set", f"{name}={value}")]
    fit = [*policy, "--method", "rrhf", "--out", str(places.run), *sets, "--set", "eval_strategy=no"]
    shared = ("full disk", "read-only folder", "clock set back", "two writers", "ENOSPC", "EIO", "EINTR")
    of_files = ("driver killed", "truncated file", "flipped bit")
    of_models = ("worker killed",)
    changing = ("source changed",)
    return [
        Command(
            "score",
            ["neat-data", "score", str(places.source), "--out", dataset, *reward, "--device", "cpu"],
            places.dataset,
            (*shared, *of_files, *of_models, *changing),
        ),
        Command(
            "expand",
            ["neat-data", "expand", dataset, *policy, *sampled, *cpu],
            places.dataset,
            (*shared, *of_files),
        ),
        Command(
            "rescore",
            ["neat-data", "rescore", dataset, *shortest, "--device", "cpu"],
            places.dataset,
            (*shared, *of_files, *of_models),
        ),
        Review(
            "review",
            ["neat-data", "review", dataset, "--polarity", "all"],
            places.dataset,
            (*shared, "server killed"),
        ),
        Command(
            "fit",
            ["neat-train", "fit", dataset, *fit, "--device", "cpu"],
            places.run,
            (*shared, *of_files, *changing),
        ),
        Command(
            "compact",
            ["neat-data", "compact", dataset, "--out", str(places.compacted), "--quiet"],
            places.compacted,
            (*shared, *of_files, *changing),
        ),
    ]


def made(stage: Command, places: Places) -> dict[str, str]:
    """sha256 by name of all that must be equal once the stage is through, so far as it is a function of the input."""
    folders: Mapping[str, Path] = {"dataset": places.dataset, "trained": places.run, "folded": places.compacted}
    files = {f"{name}/{path.relative_to(folder)}": path for name, folder in folders.items() for path in _files(folder)}
    kept = {name: path for name, path in files.items() if not name.startswith("trained/") or path.name in _OF_A_RUN}
    return {name: hashlib.sha256(_without_time(path)).hexdigest() for name, path in kept.items()}


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]


def _without_time(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".jsonl" and path.parent.name == "reviews":
        return _TIME.sub(b"", content)
    if path.name == "dataset.json":  # a manifest that was made anew has lost the packages' versions, as it says
        return json.dumps(_without_versions(json.loads(content)), sort_keys=True).encode()
    return content


def _without_versions(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_versions(part) for name, part in value.items() if name != "versions"}
    return [_without_versions(part) for part in value] if isinstance(value, list) else value
