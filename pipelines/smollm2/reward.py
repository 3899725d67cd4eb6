"""`python -m pipelines.smollm2.reward --data FOLDER --out FOLDER`: two reward models on SmolLM2.

The same command goes on. What is under `out`:

    rows/{a,b}-{train,validation}    datasets of pairs
    trials/{a,b}/N, chosen.json      runs, and which was taken
    smollm2-reward, smollm2-reward-heldout    the adapters that are shipped
    test/{harmless,helpful}, agreement.json   HH's test files as both score them, and how often both side with people
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neat_data.errors import RunError
from pipelines.processes import exit_status_of
from pipelines.smollm2.agreement import HELD_OUT, agreement
from pipelines.smollm2.rows import TESTS, dataset, is_dataset, pairs_of, placed
from pipelines.smollm2.shipped import ship
from pipelines.table2_small.jobs import Command, Job, Workers

SETTINGS = Path(__file__).with_name("reward.yaml")
SHIPPED = {"a": "smollm2-reward", "b": "smollm2-reward-heldout"}


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.smollm2.reward", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hh-rlhf-single-turn/ and hh-rlhf/")
    parser.add_argument("--out", type=Path, required=True, help="what all of it is written to")
    parser.add_argument("--base", type=Path, default=Path("data/real/smollm2"), help="SmolLM2's folder")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; the cores are shared among them")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="trials; reward-cores.yaml: on two cores")
    options = parser.parse_args(arguments)
    return exit_status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    say = Workers(options.out, options.workers, lambda line: print(line, file=sys.stderr, flush=True))
    rewards = Rewards(options.data, options.out, options.base, yaml.safe_load(options.settings.read_text()), say)
    rewards.prepare()
    for name in SHIPPED:
        rewards.workers.run([trial.job for trial in rewards.trials(name)])
        rewards.choose(name)
    rewards.workers.run(rewards.scoring())
    rewards.measure()


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the search: its folder and what makes it."""

    run: Path
    job: Job

    @property
    def accuracy(self) -> float | None:
        """On the validation rows at its end; None where it did not end."""
        file = self.run / "result.json"
        return float(json.loads(file.read_bytes())["held_out"]["end"]["accuracy"]) if file.is_file() else None


@dataclass(frozen=True, slots=True)
class Rewards:
    """Both reward models, from the rows in `data`, under `out`; `settings` are those of reward.yaml."""

    data: Path
    out: Path
    base: Path
    settings: Mapping[str, Any]
    workers: Workers

    def prepare(self) -> None:
        """The rows of both as datasets.

        Raises:
            InputError: a file is missing.
        """
        parts = ("train", "validation")
        for name in SHIPPED:
            if all(is_dataset(self._rows(name, part)) for part in parts):
                continue
            for part, pairs in zip(parts, pairs_of(name, self.data), strict=True):
                behind = placed(pairs, self.settings["in_context"], self.settings["short_query"], seed=0)
                dataset(self._rows(name, part), behind)

    def trials(self, name: str) -> list[Trial]:
        """The trials of model `a` or `b`."""
        given = self.settings["models"][name]
        made = []
        for number, settings in enumerate(given["trials"]):
            run = self.out / "trials" / name / str(number)
            chosen = {**self.settings["shared"], **given["shared"], **settings}
            fit = (
                *("neat_train", "fit", str(self._rows(name, "train")), "--policy", str(self.base)),
                *("--method", "reward", "--eval-data", str(self._rows(name, "validation")), "--out", str(run)),
                *("--seed", str(given["seed"]), "--quiet"),
                *(part for key, value in chosen.items() for part in ("--set", f"{key}={value}")),
            )
            made.append(Trial(run, Job(f"reward-{name}-{number}", (fit,), may_diverge=True)))
        return made

    def choose(self, name: str) -> Path:
        """Ship the trial with the highest accuracy on validation rows, and write down what all of them had.

        Raises:
            RunError: none came to its end.
        """
        ended = [(trial.accuracy, trial.run) for trial in self.trials(name)]
        best = max(((accuracy, run) for accuracy, run in ended if accuracy is not None), default=None)
        if best is None:
            raise RunError(f"no trial of reward model {name} came to its end; their logs are in {self.out / 'jobs'}")
        file = self.out / "chosen.json"
        known = json.loads(file.read_bytes()) if file.is_file() else {}
        trials = zip(self.settings["models"][name]["trials"], ended, strict=True)
        known[name] = {
            "taken": int(best[1].name),
            "trials": [{**settings, "validation_accuracy": accuracy} for settings, (accuracy, _) in trials],
        }
        file.write_text(json.dumps(known, indent=1) + "\n")
        return ship(best[1], self.shipped(name))

    def scoring(self) -> list[Job]:
        """HH's test files, scored by A and by B."""
        return [Job(f"reward-test-{kind}", self._scored(kind)) for kind in TESTS]

    def measure(self) -> None:
        """Write agreement.json."""
        figures = agreement(self.out / "test")
        (self.out / "agreement.json").write_text(json.dumps(figures, indent=1) + "\n")

    def shipped(self, name: str) -> Path:
        """Where the adapter of `a` or `b` lies."""
        return self.out / SHIPPED[name]

    def _rows(self, name: str, part: str) -> Path:
        return self.out / "rows" / f"{name}-{part}"

    def _scored(self, kind: str) -> tuple[Command, ...]:
        folder, base = str(self.out / "test" / kind), ("--base", str(self.base), "--quiet")
        rows, most = str(self.data / "hh-rlhf" / TESTS[kind]), self.settings.get("test_rows")
        limit = () if most is None else ("--limit", str(most))
        return (
            ("neat_data", "score", rows, "--reward-model", str(self.shipped("a")), "--out", folder, *base, *limit),
            ("neat_data", "rescore", folder, "--reward-model", str(self.shipped("b")), "--name", HELD_OUT, *base),
        )


if __name__ == "__main__":
    sys.exit(main())
