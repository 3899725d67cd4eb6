"""`compare`: the paper's Tables 2 and 3 and its Figure 3, for any set of runs.

It reads what `fit`, `eval` and `judge` wrote and computes nothing anew but what needs several of them: means over
seeds, and tests between arms on the same queries. What cannot be compared is refused; what is missing is a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from neat_data.errors import InputError
from neat_data.store.documents import Settings
from neat_train.comparison import figures, paper
from neat_train.comparison.alike import require_alike, require_seeds
from neat_train.comparison.costs import curve, of_arm
from neat_train.comparison.costs import notes as progress_notes
from neat_train.comparison.differences import neighbours, require_known, tested
from neat_train.comparison.evaluation import (
    SHOWN_DECODING,
    Evaluation,
    evaluation_of,
    read_evaluation,
    read_judged,
    run_of,
    run_settings,
    samples,
    wanted_evaluation,
)
from neat_train.comparison.result import Arm, ComparedQueries, Comparison, Cost, Curve, Hypothesis, Member
from neat_train.evaluation.figures import CHOSEN

EXAMPLES = 6  # queries whose answers are shown side by side


def compare(
    arms: Mapping[str, Sequence[Path]],
    *,
    evaluation: str | None = None,
    hypotheses: Sequence[tuple[str, str] | Hypothesis] | None = None,
    judged: Sequence[Path] = (),
    extra: Mapping[str, Mapping[str, Cost]] | None = None,
    examples: int = EXAMPLES,
) -> Comparison:
    """Compare arms in their order.

    Args:
        arms: name -> its seeds, each a run's folder or the folder of one evaluation (that holds eval.json).
        evaluation: which of a run's evaluations: RUN/eval/EVALUATION; None where a run has one alone.
        hypotheses: (worse, better) or (worse, better, figure), tested as one family with Holm's correction; None:
            each arm is better than the one before it, in reward.
        judged: judge.json files, or the folders that hold one.
        extra: arm -> column -> value, shown with the costs; a column that the runs have too is replaced.
        examples: so many queries are shown with everybody's answers.

    Raises:
        InputError: no arm was evaluated; arms were evaluated on other queries, under other reward models of the same
            name, or with other decoding settings; or what is given as seeds of an arm differs in more than the seed.
    """
    _require_arms(arms)
    wanted = wanted_evaluation(arms, evaluation)
    given = {name: [_seed(path, wanted) for path in paths] for name, paths in arms.items()}
    evaluated = {name: measured for name, seeds in given.items() if (measured := _evaluations(seeds))}
    for name, seeds in given.items():
        require_seeds(name, _evaluations(seeds), [seed.run for seed in seeds if seed.run is not None])
    stated = [Hypothesis(*each) for each in hypotheses] if hypotheses is not None else neighbours(list(arms))
    require_known(stated, arms)
    notes = [*_unevaluated(given, wanted), *require_alike(evaluated)]
    models = tuple(
        dict.fromkeys(model for seeds in evaluated.values() for each in seeds for model in each.reward_models)
    )
    differences, untested = tested(stated, evaluated, models)
    rows, cost_notes = _arms(given, evaluated, models, extra or {})
    curves, curve_notes = _curves(given)
    names = _names(given)
    first = next(iter(evaluated.values()))[0]
    asked = first.result.queries
    return Comparison(
        queries=ComparedQueries(asked.name, asked.count, asked.sha256),
        reward_models=models,
        negative=first.negative,
        chosen=_chosen(first),
        arms=rows,
        differences=differences,
        judged=tuple(read_judged(path, names) for path in judged),
        curves=curves,
        samples=samples(evaluated, examples),
        notes=(*notes, *untested, *cost_notes, *curve_notes),
    )


@dataclass(frozen=True, slots=True)
class _Seed:
    """What lies at one path that was given."""

    path: Path
    run: Path | None
    evaluation: Evaluation | None

    @property
    def settings(self) -> Settings:
        return run_settings(self.run) if self.run else {}

    @property
    def number(self) -> int | None:
        if self.evaluation is not None:
            return self.evaluation.result.subject.seed
        return self.settings.get("training", {}).get("seed")

    @property
    def method(self) -> str | None:
        if self.evaluation is not None:
            return self.evaluation.result.subject.method
        return self.settings.get("method")

    def member(self, models: Sequence[str]) -> Member:
        evaluation = self.evaluation
        if evaluation is None:
            return Member(str(self.path), self.number, None, None, None)
        reward = figures.reward(evaluation, SHOWN_DECODING, models[0]) if models else None
        kl = figures.column(evaluation, SHOWN_DECODING, "kl")
        return Member(str(self.path), self.number, str(evaluation.folder), _mean(reward), _mean(kl))


def _mean(values: pl.DataFrame | None) -> float | None:
    return None if values is None else float(values["value"].to_numpy().mean())


def _require_arms(arms: Mapping[str, Sequence[Path]]) -> None:
    if empty := [name for name, paths in arms.items() if not paths]:
        raise InputError(f"{empty[0]}: has no run")
    for name, paths in arms.items():
        if len({path.resolve() for path in paths}) < len(paths):
            raise InputError(f"{name}: the same run is given twice")


def _seed(path: Path, wanted: str) -> _Seed:
    folder = evaluation_of(path, wanted)
    return _Seed(path, run_of(path), read_evaluation(folder) if folder else None)


def _evaluations(seeds: Sequence[_Seed]) -> list[Evaluation]:
    return [seed.evaluation for seed in seeds if seed.evaluation is not None]


def _unevaluated(given: Mapping[str, Sequence[_Seed]], wanted: str) -> list[str]:
    """Notes on runs that have no evaluation: an arm's figures are those of the others, or empty."""
    return [
        f"{seed.path} has no evaluation {wanted}: {_left(seeds)}."
        for seeds in given.values()
        for seed in seeds
        if seed.evaluation is None
    ]


def _left(seeds: Sequence[_Seed]) -> str:
    left = len(_evaluations(seeds))
    return f"its arm's figures are of the other {left}" if left else "its cells are empty"


def _names(given: Mapping[str, Sequence[_Seed]]) -> dict[Path, str]:
    """What arms are called, by the paths that were given and by the runs behind them.

    A run that is in several arms, under several prompts, is called as none of them.
    """
    behind: dict[Path, set[str]] = {}
    for name, seeds in given.items():
        for seed in seeds:
            if seed.run is not None:
                behind.setdefault(seed.run.resolve(), set()).add(name)
    alone = {run: next(iter(names)) for run, names in behind.items() if len(names) == 1}
    return {**alone, **{seed.path.resolve(): name for name, seeds in given.items() for seed in seeds}}


def _arms(
    given: Mapping[str, Sequence[_Seed]],
    evaluated: Mapping[str, Sequence[Evaluation]],
    models: Sequence[str],
    extra: Mapping[str, Mapping[str, Cost]],
) -> tuple[tuple[Arm, ...], list[str]]:
    references = paper.references({name: seeds[0].method for name, seeds in given.items()})
    rows, notes = [], []
    for name, seeds in given.items():
        costs, unknown = of_arm([seed.run for seed in seeds], extra.get(name))
        measured = evaluated.get(name, [])
        rows.append(
            Arm(
                name,
                seeds[0].method,
                measured[0].result.prompt if measured else None,
                tuple(seed.member(models) for seed in seeds),
                tuple(dict.fromkeys(evaluation.start for evaluation in measured if evaluation.start is not None)),
                figures.of(measured),
                figures.unscored(measured),
                costs,
                references.get(name),
            )
        )
        notes += unknown
    return tuple(rows), notes


def _curves(given: Mapping[str, Sequence[_Seed]]) -> tuple[tuple[Curve, ...], list[str]]:
    """A curve a run: one that is evaluated twice, under two prompts, trained once."""
    runs: dict[Path, tuple[str, int | None]] = {}
    for name, seeds in given.items():
        for seed in seeds:
            if seed.run is not None:
                runs.setdefault(seed.run.resolve(), (name, seed.number))
    drawn = [curve(*whose, run) for run, whose in runs.items()]
    curves = tuple(each for each in drawn if each is not None)
    return curves, progress_notes([(name, run) for run, (name, _) in runs.items()], curves)


def _chosen(evaluation: Evaluation) -> dict[str, float]:
    """Mean reward of the chosen responses to the queries, by reward model."""
    answered = evaluation.answered(SHOWN_DECODING)
    columns = [name for name in answered.columns if name.startswith(CHOSEN)]
    means = {name.removeprefix(CHOSEN): answered[name].mean() for name in columns}
    return {name: float(mean) for name, mean in means.items() if isinstance(mean, float)}
