"""The gold setting's jobs, stage by stage. What lies under `out`:

experiment.json          what it is an experiment on
rows/                    gold's labels: test.jsonl, labels.jsonl, train.jsonl
labels/                  labels.jsonl as a dataset
proxy/                   the run of `fit --method reward` on it: the reward model that learnt from gold's labels alone
train/, test/            the pairs of the other two, scored by the proxy; test/ also by gold, with best-of-n's samples
runs/ARM/                run folders, with a checkpoint a quarter
evals/start, evals/ARM/STEP    what each of them is worth under both models
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neat_train.evaluation.folder import EVAL
from pipelines.gold.labels import labels_of
from pipelines.table2_small.folder import claimed
from pipelines.table2_small.jobs import Command, Job, Workers

GOLD_SCORES = "gold"
SETTINGS = Path(__file__).with_name("settings.yaml")


@dataclass(frozen=True, slots=True)
class Gold:
    """One experiment under `out`.

    Attributes:
        train: a dataset that `gold` has scored.
        policy: what the arms start from.
        body: a policy that no reward model has had a part in; the proxy's beginning.
        gold: the reward model that plays the human.
        settings: of settings.yaml.
        size: its name there.
    """

    train: str
    policy: str
    body: str
    gold: str
    out: Path
    settings: Mapping[str, Any]
    size: str
    workers: Workers

    def run(self) -> None:
        """Whatever has not been done yet.

        Raises:
            InputError: `out` holds another experiment, or another process writes to it.
            RunError: a job failed.
        """
        size = self.settings["sizes"][self.size]
        about = {"size": size, "seed": self.settings["seed"]}  # the rest is in the commands
        with claimed(self.out, labels_of(self.train, self.gold, size), about):
            self._stages()

    def _stages(self) -> None:
        self.workers.run([Job("proxy", self._proxy())])
        self.workers.run([Job("train", (self._score("train"),))])
        first, behind = (
            [self._run(name) for name, arm in self._arms if ("after" in arm) is later] for later in (False, True)
        )
        self.workers.run([*first, Job("test", self._test())])
        self.workers.run(behind)
        last = dict(self.checkpoints())
        ends_first = sorted(self.checkpoints(), key=lambda checkpoint: checkpoint[1] != last[checkpoint[0]])
        start = Job("eval-start", (self._eval(self.policy, "start"),))
        self.workers.run([start, *(self._evaluation(name, step) for name, step in ends_first)])

    def checkpoints(self) -> list[tuple[str, int]]:
        """Arms, each with the steps at which it was saved; one that is only the start of another is not measured."""
        starts = {arm["after"] for _, arm in self._arms if "after" in arm}
        return [
            (name, step)
            for name, _ in self._arms
            if name not in starts
            for step in sorted(int(path.name.split("-")[1]) for path in (self.out / "runs" / name).glob("checkpoint-*"))
        ]

    def evaluations(self) -> dict[str, dict[int, Path]]:
        """Folders of the finished evaluations by arm and step; the start is step 0 of each."""
        folders: dict[str, dict[int, Path]] = {}
        folder = self.out / "evals"
        for name, step in self.checkpoints():
            if (folder / name / str(step) / EVAL).is_file():
                folders.setdefault(name, {0: folder / "start"})[step] = folder / name / str(step)
        return folders

    @property
    def proxy(self) -> Path:
        """The proxy's folder."""
        return self.out / "proxy"

    @property
    def _arms(self) -> list[tuple[str, Mapping[str, Any]]]:
        return list(self.settings["arms"].items())

    def _proxy(self) -> Sequence[Command]:
        """Gold's labels as a dataset, and a reward model from them that begins as a policy that gold had no part in."""
        how = ("--policy", self.body, "--full", "--out", str(self.proxy), "--quiet")
        chosen = self._sets({**self.settings["proxy"], "seed": self.settings["seed"]})
        fit = ("neat_train", "fit", str(self.out / "labels"), "--method", "reward", *how, *chosen)
        return (self._score("labels", self.gold), fit)

    def _score(self, name: str, model: str | None = None) -> Command:
        rows, out = self.out / "rows" / f"{name}.jsonl", self.out / name
        scored_by = ("--reward-model", model or str(self.proxy))
        return ("neat_data", "score", str(rows), *scored_by, "--out", str(out), "--quiet")

    @staticmethod
    def _sets(settings: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(part for setting, value in settings.items() for part in ("--set", f"{setting}={value}"))

    def _test(self) -> Sequence[Command]:
        """Score the test pairs by the proxy, add the samples that best-of-n chooses from, and score all by gold."""
        test, samples = str(self.out / "test"), str(self.settings["sizes"][self.size]["best_of"])
        sampling = ("--policy", self.policy, "--prompts", "plain", "--num-samples", samples)
        scoring = ("--reward-model", self.gold, "--name", GOLD_SCORES)
        return (
            self._score("test"),
            ("neat_data", "expand", test, *sampling, "--reward-model", str(self.proxy), "--quiet"),
            ("neat_data", "rescore", test, *scoring, "--quiet"),
        )

    def _run(self, name: str) -> Job:
        return Job(name, (self._fit(name, self.settings["arms"][name]),))

    def _fit(self, name: str, arm: Mapping[str, Any]) -> Command:
        start = str(self.out / "runs" / arm["after"]) if "after" in arm else self.policy
        given = {**self.settings["fit"], **arm["settings"], "seed": self.settings["seed"]}
        return (
            *("neat_train", "fit", str(self.out / "train"), "--policy", start, "--method", arm["method"]),
            *("--reward-model", str(self.proxy), "--out", str(self.out / "runs" / name), "--quiet"),
            *self._sets(given),
        )

    def _evaluation(self, name: str, step: int) -> Job:
        run = self.out / "runs" / name / f"checkpoint-{step}"
        return Job(f"eval-{name}-{step}", (self._eval(str(run), f"{name}/{step}"),))

    def _eval(self, subject: str, out: str) -> Command:
        models = [part for model in (str(self.proxy), self.gold) for part in ("--reward-model", model)]
        return (
            *("neat_train", "eval", subject, "--queries", str(self.out / "test"), *models),
            *("--start", self.policy, "--out", str(self.out / "evals" / out), "--quiet"),
        )
