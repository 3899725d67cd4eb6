"""The experiment's table: what `neat-train compare` makes of its arms, with what was asked of them beforehand.

Whatever has been evaluated is in it, so that an experiment that was stopped has a table too: an arm has as many seeds
as were evaluated, and one without any is left out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.report.tables import Table
from neat_train.comparison.compare import compare
from neat_train.comparison.markdown import write_markdown
from neat_train.comparison.page import write_report
from neat_train.comparison.result import Comparison, Cost, Hypothesis
from neat_train.comparison.tables import differences, tables
from pipelines.table2_small.arms import ARMS, DIFFERS, ORDER, QUESTIONS, Question
from pipelines.table2_small.experiment import Experiment

POSITIVE = " (positive prompt)"


def write_table(experiment: Experiment) -> list[Table]:
    """Write table.md, table.json and table.html under the experiment's folder; returns the tables.

    The tests of the paper's order are one family, those of the controls another; all three files have both.

    Raises:
        InputError: nothing has been evaluated there.
    """
    arms = {name: folders for name, folders in _places(experiment).items() if folders}
    if not arms:
        raise InputError(f"{experiment.out}: holds no evaluated run; without --table-only they are made")
    extra = _before(experiment, arms)
    order = [Hypothesis(*one) for one in ORDER if {one[0], one[1]} <= set(arms)]
    asked = {Hypothesis(one.control, one.arm): one for one in QUESTIONS if {one.control, one.arm} <= set(arms)}
    comparison = compare(arms, hypotheses=order, extra=extra)
    controls = compare(arms, hypotheses=list(asked), examples=0)
    answered = [_answered(controls, asked)] if controls.differences else []
    made = [*tables(comparison), *answered]
    out = experiment.out
    (out / "table.json").write_text(
        json.dumps(_with_controls(comparison, controls, asked), indent=1) + "\n", encoding="utf-8"
    )
    write_markdown(made, out / "table.md")
    write_report(comparison, out / "table.html", answered)
    return made


def _answered(controls: Comparison, asked: Mapping[Hypothesis, Question]) -> Table:
    """The tests of the controls, each with what the control differs in."""
    made = differences(controls)
    differing = [asked[one.hypothesis].differs for one in controls.differences]
    rows = tuple((*row, ", ".join(names)) for row, names in zip(made.rows, differing, strict=True))
    meant = [f"{name}: {meaning}" for name, meaning in DIFFERS.items() if any(name in names for names in differing)]
    return Table(
        "Does the arm do better than its controls?",
        (*made.columns, "they differ in"),
        rows,
        f"{made.note} What the control, on the left, has instead: {'; '.join(meant)}. Where they differ in several, "
        "nothing here tells which of them makes the difference.",
    )


def figures_alone(comparison: Comparison) -> dict[str, Any]:
    """The figures, to be shown to others: no answers, and of the seeds no folders."""
    document = comparison.to_dict()
    del document["samples"]
    for arm in document["arms"]:
        arm["seeds"] = [member["seed"] for member in arm.pop("members")]
    return document


def _with_controls(
    comparison: Comparison, controls: Comparison, asked: Mapping[Hypothesis, Question]
) -> dict[str, Any]:
    differing = [{"differ_in": asked[one.hypothesis].differs} for one in controls.differences]
    tested = [{**one, **more} for one, more in zip(controls.to_dict()["differences"], differing, strict=True)]
    return {**figures_alone(comparison), "controls": tested}


def _places(experiment: Experiment) -> dict[str, list[Path]]:
    """Every row's evaluations, in the order of the table."""
    starts = {"before training": "policy", "before training, plain": "plain"}
    places = {name: _evaluated(experiment.out / "start" / start / "test") for name, start in starts.items()}
    for arm in (*experiment.plan.methods, *experiment.plan.controls):
        runs = [experiment.run_of(arm.name, seed) for seed in experiment.size.seeds]
        places[arm.name] = [place for run in runs for place in _evaluated(run / "eval" / "test")]
        places[arm.name + POSITIVE] = [place for run in runs for place in _evaluated(run / "eval" / "test-positive")]
    return places


def _evaluated(folder: Path) -> list[Path]:
    return [folder] if (folder / "eval.json").is_file() else []


def _before(experiment: Experiment, arms: Collection[str]) -> dict[str, dict[str, Cost]]:
    """What came before an arm's own run: steps of the runs that it starts from, and whose samples it is trained on."""
    costs: dict[str, dict[str, Cost]] = {}
    for name in arms:
        arm = ARMS.get(name.removesuffix(POSITIVE))
        if arm and arm.after:
            costs.setdefault(name, {})["extra SFT steps"] = _steps(experiment, arm.after)
        if arm and arm.on:
            costs.setdefault(name, {})["samples of"] = arm.on
    return costs


def _steps(experiment: Experiment, arm: str) -> float:
    """Of an arm's run; the same for every seed."""
    result = experiment.run_of(arm, experiment.size.seeds[0]) / "result.json"
    return float(json.loads(result.read_bytes())["steps"])
