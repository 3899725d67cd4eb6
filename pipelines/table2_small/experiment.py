"""The experiment's jobs, stage by stage: data, tuning, the methods over seeds, the controls, and their evaluation.

Every stage is a list of jobs that do not wait for each other. What is under `out`:

    experiment.json                      what it is an experiment on
    rows/, train/, validation/, test/    source rows and the scored datasets of them
    tune/ARM/N, tune.json                trials, and which was taken
    runs/ARM/SEED                        run folders, with eval/test and, for NEAT-PP, eval/test-positive
    start/…                              the two policies that training begins with, evaluated
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.table2_small.arms import Arm
from pipelines.table2_small.folder import claimed
from pipelines.table2_small.jobs import Command, Job, Workers
from pipelines.table2_small.plans import TINY, Models, Plan
from pipelines.table2_small.rows import rows_of
from pipelines.table2_small.sizes import Size
from pipelines.table2_small.tuning import KL_CAP, PERPLEXITY_CAP, Trial, best, read_trial, trials

TUNING_SEED = 0


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment of `size` under `out`, from the rows in `data`."""

    data: Path
    out: Path
    size: Size
    models: Models
    workers: Workers
    plan: Plan = TINY

    def run(self) -> None:
        """Everything, in the order in which it is worth most should it be stopped.

        Raises:
            InputError: `out` holds another experiment, or another process writes to it.
            RunError: a job failed.
        """
        with claimed(self.out, rows_of(self.data, self.size), {"size": asdict(self.size)}):
            self._stages()

    def _stages(self) -> None:
        self.workers.run(self._datasets())
        first = [arm for arm in self.plan.methods if arm.after is None]
        behind = [arm for arm in self.plan.methods if arm.after is not None]
        for arms in (first, behind):
            self._try(arms)
            self._choose(arms)
            self._train(arms)
        self._train(self.plan.controls)

    def _datasets(self) -> list[Job]:
        sources = {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test/*/test.jsonl"}
        return [Job(f"score-{name}", (self._scoring(name, source),)) for name, source in sources.items()]

    def _scoring(self, name: str, source: str) -> Command:
        split = ("--split", "test") if name == "test" else ()
        return (
            *("neat_data", "score", str(self.out / "rows" / source), "--reward-model", self.models.reward),
            *("--out", str(self.out / name), *split, "--quiet"),
        )

    def _try(self, arms: Sequence[Arm]) -> None:
        """Train the trials of these arms; the dearest arms first, so that no worker is left with one at the end."""
        self.workers.run([self._trial(arm, number) for arm in reversed(arms) for number in range(self.size.trials)])

    def _choose(self, arms: Sequence[Arm]) -> None:
        """Measure the trials of these arms, and write down which is taken of each."""
        measured = [self._trial_evaluation(arm, number) for arm in arms for number in range(self.size.trials)]
        self.workers.run([*self._starts(), *measured])
        file = self.out / "tune.json"
        known = json.loads(file.read_bytes()) if file.is_file() else {}
        known |= {arm.name: self._chosen(arm) for arm in arms}
        file.write_text(json.dumps(known, indent=1) + "\n")

    def _trial(self, arm: Arm, number: int) -> Job:
        given = {
            **self._trials(arm)[number],
            "limit": self.size.trial_records,
            "eval_strategy": "no",
            "save_strategy": "no",
        }
        run = self._trial_run(arm.name, number)
        start = self._trial_run(arm.after, self._taken(arm.after)) if arm.after else self.models.policy
        fit = self._fit(arm, run, str(start), self.out / "train", TUNING_SEED, given)
        return Job(f"tune-{arm.name}-{number}", (fit,), may_diverge=True)

    def _trials(self, arm: Arm) -> list[dict[str, Any]]:
        return trials(arm, self.size.trials, self.plan.learning_rates)

    def _trial_evaluation(self, arm: Arm, number: int) -> Job:
        run = self._trial_run(arm.name, number)
        command = self._eval(run, "validation", held_out=False, start=self._far_start(arm))
        if arm.after:
            command = (*command, "--out", str(self._trial_measured(arm, number)))
        return Job(f"tune-{arm.name}-{number}-eval", (command,) if (run / "result.json").is_file() else ())

    def _trial_measured(self, arm: Arm, number: int) -> Path:
        """Where a trial's evaluation lies; the folder's name says from what KL is measured if not the run's start."""
        return self._trial_run(arm.name, number) / "eval" / ("validation-from-policy" if arm.after else "validation")

    def _far_start(self, arm: Arm) -> str | None:
        """What KL is measured from where that is not what the run starts from: the policy, as for all others."""
        return self.models.policy if arm.after else None

    def _chosen(self, arm: Arm) -> dict[str, Any]:
        tried = [
            read_trial(arm.name, number, given, self._trial_measured(arm, number), Path(self.models.reward).name)
            for number, given in enumerate(self._trials(arm))
        ]
        start = self._start_perplexity()
        taken = best(tried, start)
        return {
            "taken": taken.number,
            "settings": dict(taken.settings),
            "caps": {"perplexity": PERPLEXITY_CAP * start, "kl": KL_CAP},
            "trials": [_told(trial, start) for trial in tried],
        }

    def _taken(self, arm: str) -> int:
        return int(json.loads((self.out / "tune.json").read_bytes())[arm]["taken"])

    def _tuned(self, arm: str) -> dict[str, Any]:
        return dict(json.loads((self.out / "tune.json").read_bytes())[arm]["settings"])

    def _train(self, arms: Sequence[Arm]) -> None:
        """Train these arms with every seed and measure each; seeds first, so that a part of it is a whole table."""
        seeds = self.size.seeds
        self.workers.run([self._final(arm, seed) for seed in seeds for arm in reversed(arms)])
        self.workers.run([self._evaluation(arm, seed) for seed in seeds for arm in arms])

    def _final(self, arm: Arm, seed: int) -> Job:
        given = {**self._tuned(arm.of or arm.name), **arm.settings}
        given = {name: value for name, value in given.items() if _means_something(arm, name)}
        if self.size.records is not None:
            given["limit"] = self.size.records
        start = self.run_of(arm.after, seed) if arm.after else self._policy(arm)
        dataset = self.run_of(arm.on, seed) / "dataset" if arm.on else self.out / "train"
        given["held_out.data"] = str(self.out / "validation")
        return Job(
            f"{arm.name}-{seed}", (self._fit(arm, self.run_of(arm.name, seed), str(start), dataset, seed, given),)
        )

    def _policy(self, arm: Arm) -> str:
        if not arm.plain:
            return self.models.policy
        assert self.models.plain is not None
        return self.models.plain

    def _fit(self, arm: Arm, run: Path, start: str, dataset: Path, seed: int, given: Mapping[str, Any]) -> Command:
        sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
        return (
            *("neat_train", "fit", str(dataset), "--policy", start, "--method", arm.method, "--out", str(run)),
            *("--settings", str(self.plan.settings), "--seed", str(seed), *sets, "--quiet"),
        )

    def _starts(self) -> list[Job]:
        """The policies that training begins with."""
        return [
            Job(f"start-{name}", tuple(self._eval_model(model, name, queries) for queries in sets))
            for name, model, sets in (
                ("policy", self.models.policy, ("validation", "test")),
                ("plain", self.models.plain, ("test",)),
            )
            if model is not None
        ]

    def _eval_model(self, model: str, name: str, queries: str) -> Command:
        return (*self._eval(Path(model), queries), "--out", str(self.out / "start" / name / queries))

    def _evaluation(self, arm: Arm, seed: int) -> Job:
        run = self.run_of(arm.name, seed)
        commands = [self._eval(run, "test", start=self._far_start(arm))]
        if arm.method == "neat-pp":  # the two readings of NEAT-PP
            commands.append((*self._eval(run, "test"), "--prompt", "positive"))
        return Job(f"{arm.name}-{seed}-eval", tuple(commands))

    def _eval(self, subject: Path, queries: str, held_out: bool = True, start: str | None = None) -> Command:
        models = [self.models.reward, *([self.models.held_out] if held_out else [])]
        return (
            *("neat_train", "eval", str(subject), "--queries", str(self.out / queries)),
            *(part for model in models for part in ("--reward-model", model)),
            *(() if start is None else ("--start", start)),
            "--quiet",
        )

    def _start_perplexity(self) -> float:
        file = self.out / "start" / "policy" / "validation" / "eval.json"
        return float(json.loads(file.read_bytes())["perplexity"]["value"])

    def _trial_run(self, arm: str, number: int) -> Path:
        return self.out / "tune" / arm / str(number)

    def run_of(self, arm: str, seed: int) -> Path:
        """The run folder of an arm and a seed."""
        return self.out / "runs" / arm / str(seed)


def _means_something(arm: Arm, name: str) -> bool:
    """Whether a tuned setting of the arm that a control is of means something to the control."""
    if arm.settings.get("loss.beta") == 0.0 or arm.method.startswith("rrhf"):
        return not name.startswith("loss.penalty") and (name != "loss.beta" or name in arm.settings)
    return True


def _told(trial: Trial, start: float) -> dict[str, Any]:
    return {**asdict(trial), "under_caps": trial.near(start)}
