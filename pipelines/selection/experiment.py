"""The jobs of an experiment of arms, stage by stage: the same policy and rows, other pairs or another method.

What is under `out`:

    experiment.json          what it is an experiment on
    rows/, train/, test/     source rows and the scored datasets of them; train/ with the policy's own samples
    chooser/                 where pairs are chosen: a run on all, whose log-ratios are the scores `implicit` of train/
    runs/ARM/SEED            run folders, with eval/test
    start/                   the policy that all of them begin with, evaluated
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neat_train.evaluation.folder import EVAL
from pipelines.table2_small.folder import claimed
from pipelines.table2_small.jobs import Command, Job, Workers
from pipelines.table2_small.rows import rows_of
from pipelines.table2_small.sizes import Size

IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Arms:
    """One experiment under `out`.

    Attributes:
        data: the folder with hh-rlhf-single-turn/ and hh-rlhf/.
        policy: what is trained.
        reward, held_out: the reward model whose gaps choose and train, and one that only measures.
        settings: of selection.yaml or methods.yaml; `size` is a name there.
    """

    data: Path
    out: Path
    policy: str
    reward: str
    held_out: str
    settings: Mapping[str, Any]
    size: str
    workers: Workers

    def run(self) -> None:
        """Whatever has not been done yet.

        Raises:
            InputError: `out` holds another experiment, or another process writes to it.
            RunError: a job failed.
        """
        size = self._size
        wanted = Size(size["records"], size["records"], 1, tuple(self.seeds), size["queries"], 0)
        rows = {name: text for name, text in rows_of(self.data, wanted).items() if name != "validation.jsonl"}
        with claimed(self.out, rows, {"size": size}):
            self.workers.run([Job("train", self._train()), Job("test", (self._score("test", "test/*/test.jsonl"),))])
            chooser = [Job("chooser", self._chooser())] if "chooser" in self.settings else []
            self.workers.run([*chooser, Job("start", (self._eval(self.policy, "start"),))])
            for seed in self.seeds:  # seeds first, so that a part of it is a whole table
                self.workers.run([self._arm(name, seed) for name in self.arms])

    @property
    def arms(self) -> Mapping[str, Mapping[str, Any]]:
        """What sets each apart: `method`, `settings`, `pairs` (which pair of a record), `keep` (which records)."""
        return self.settings["arms"]

    @property
    def seeds(self) -> Sequence[int]:
        """Of the runs."""
        return self._size["seeds"]

    def evaluations(self) -> dict[str, list[Path]]:
        """Folders of the finished evaluations by arm; the start is one, too."""
        places = {"before training": [self.out / "start"]}
        for name in self.arms:
            places[name] = [self._run(name, seed) / "eval" / "test" for seed in self.seeds]
        finished = {name: [each for each in folders if (each / EVAL).is_file()] for name, folders in places.items()}
        return {name: folders for name, folders in finished.items() if folders}

    @property
    def _size(self) -> Mapping[str, Any]:
        return self.settings["sizes"][self.size]

    def _run(self, arm: str, seed: int) -> Path:
        return self.out / "runs" / arm / str(seed)

    def _train(self) -> Sequence[Command]:
        """The rows, scored, with samples of the policy beside them."""
        sampling = [part for name, value in self.settings["sampling"].items() for part in (f"--{name}", str(value))]
        sampled = ("--policy", self.policy, "--prompts", "plain", "--num-samples", str(self._size["samples"]))
        return (
            self._score("train", "train.jsonl"),
            ("neat_data", "expand", str(self.out / "train"), *sampled, *sampling, "--drop", "unfinished", "--quiet"),
        )

    def _score(self, name: str, source: str) -> Command:
        split = ("--split", "test") if name == "test" else ()
        return (
            *("neat_data", "score", str(self.out / "rows" / source), "--reward-model", self.reward),
            *("--out", str(self.out / name), *split, "--quiet"),
        )

    def _chooser(self) -> Sequence[Command]:
        """A policy trained on all pairs, and what it makes of them."""
        run, train = str(self.out / "chooser"), str(self.out / "train")
        scoring = ("--reward-model", f"implicit:{run}", "--base", self.policy, "--name", IMPLICIT)
        return (
            self._fit(run, self.settings["chooser"]),
            ("neat_data", "rescore", train, *scoring, "--quiet"),
        )

    def _arm(self, name: str, seed: int) -> Job:
        arm, run = self.arms[name], str(self._run(name, seed))
        own = {"seed": seed, **arm.get("settings", {}), **({"method": arm["method"]} if "method" in arm else {})}
        pairs = ("--pairs", arm["pairs"]) if "pairs" in arm else ()
        kept = ("--keep-pairs", f"{arm['keep']}:{self._size['kept']}") if "keep" in arm else ()
        return Job(f"{name}-{seed}", ((*self._fit(run, own), *pairs, *kept), self._eval(run)), may_diverge=True)

    def _fit(self, run: str, own: Mapping[str, Any]) -> Command:
        given = {**self.settings["fit"], **self._size.get("fit", {}), **own}
        method = given.pop("method")
        sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
        where = ("--policy", self.policy, "--out", run)
        return ("neat_train", "fit", str(self.out / "train"), "--method", method, *where, "--quiet", *sets)

    def _eval(self, subject: str, out: str | None = None) -> Command:
        models = [part for model in (self.reward, self.held_out) for part in ("--reward-model", model)]
        length = ("--max-new-tokens", str(self.settings["sampling"]["max-new-tokens"]))
        place = () if out is None else ("--out", str(self.out / out))
        return (
            *("neat_train", "eval", subject, "--queries", str(self.out / "test"), *models),
            *(*length, *place, "--quiet"),
        )
