"""Hypotheses about arms, tested as one family on the same queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import polars as pl

from neat_data.errors import InputError
from neat_train.comparison import figures
from neat_train.comparison.alike import same_tokens
from neat_train.comparison.evaluation import Evaluation
from neat_train.comparison.result import Figure, Hypothesis, HypothesisTest
from neat_train.statistics import LEVEL, holm

Evaluations = Mapping[str, Sequence[Evaluation]]
Read = Callable[[Evaluation], pl.DataFrame | None]


@dataclass(frozen=True, slots=True)
class Tested:
    """A figure that hypotheses can be about: how it is read, given the reward models, and which way is better.

    One `of_tokens` is a mean over tokens, so it compares only where texts become the same tokens.
    """

    read: Callable[[Sequence[str]], Read | None]
    higher_is_better: bool = True
    of_tokens: bool = False


def _reward(place: int, decoding: str = "sampled") -> Callable[[Sequence[str]], Read | None]:
    """Of the reward model at this place; None where there are fewer."""

    def read(models: Sequence[str]) -> Read | None:
        return partial(figures.reward, decoding=decoding, model=models[place]) if len(models) > place else None

    return read


FIGURES = {
    "reward": Tested(_reward(0)),
    "held-out reward": Tested(_reward(1)),
    "negative-prompt reward": Tested(_reward(0, "negative")),
    "perplexity": Tested(lambda models: figures.perplexity, higher_is_better=False, of_tokens=True),
    "kl": Tested(lambda models: partial(figures.column, decoding="sampled", name="kl"), higher_is_better=False),
}


def neighbours(arms: Sequence[str]) -> list[Hypothesis]:
    """Each arm has more reward than the one before it."""
    return [Hypothesis(worse, better) for worse, better in pairwise(arms)]


def require_known(hypotheses: Iterable[Hypothesis], arms: Iterable[str]) -> None:
    """Raise InputError where a hypothesis is about an arm or a figure that there is not."""
    known = list(arms)
    for hypothesis in hypotheses:
        for arm in (hypothesis.worse, hypothesis.better):
            if arm not in known:
                raise InputError(f"hypothesis {tuple(hypothesis)}: no arm is called {arm}; there is {', '.join(known)}")
        if hypothesis.figure not in FIGURES:
            raise InputError(f"hypothesis {tuple(hypothesis)}: the figure is one of {', '.join(FIGURES)}")


def tested(
    hypotheses: Sequence[Hypothesis], evaluated: Evaluations, models: Sequence[str]
) -> tuple[tuple[HypothesisTest, ...], list[str]]:
    """What the evaluations say of each hypothesis, and notes on those that cannot be tested.

    Args:
        evaluated: the evaluations of each arm; an arm without any is not there.
        models: reward models, the first is `reward`.
    """
    results = [(hypothesis, _result(hypothesis, evaluated, models)) for hypothesis in hypotheses]
    testable = [(hypothesis, result) for hypothesis, result in results if result is not None]
    adjusted = holm([result.p for _, result in testable])
    notes = [
        f"{hypothesis.worse} and {hypothesis.better} cannot be compared in {hypothesis.figure}: "
        f"{_why_not(hypothesis, evaluated)}."
        for hypothesis, result in results
        if result is None
    ]
    first = LEVEL / max(len(testable), 1)  # of Holm's steps
    rows = tuple(_difference(*row, p, first, evaluated, models) for row, p in zip(testable, adjusted, strict=True))
    return rows, notes


def _why_not(hypothesis: Hypothesis, evaluated: Evaluations) -> str:
    return "one of them lacks it" if _same_tokens(hypothesis, evaluated) else "they do not count the same tokens"


def _same_tokens(hypothesis: Hypothesis, evaluated: Evaluations) -> bool:
    """Whether tokens mean the same for both, or for this figure do not matter."""
    return not FIGURES[hypothesis.figure].of_tokens or same_tokens(
        [*evaluated.get(hypothesis.worse, ()), *evaluated.get(hypothesis.better, ())]
    )


@dataclass(frozen=True, slots=True)
class _Result:
    better: figures.Values
    worse: figures.Values
    difference: Figure
    p: float


def _result(hypothesis: Hypothesis, evaluated: Evaluations, models: Sequence[str]) -> _Result | None:
    read = FIGURES[hypothesis.figure].read(models)
    pair = [evaluated.get(arm, ()) for arm in (hypothesis.better, hypothesis.worse)]
    values = figures.aligned(pair, read) if read and all(pair) and _same_tokens(hypothesis, evaluated) else None
    difference = figures.difference(*values) if values else None
    return _Result(values[0], values[1], *difference) if values and difference else None


def _difference(
    hypothesis: Hypothesis,
    result: _Result,
    adjusted: float,
    level: float,
    evaluated: Evaluations,
    models: Sequence[str],
) -> HypothesisTest:
    beside = (
        _result(hypothesis._replace(figure="held-out reward"), evaluated, models)
        if hypothesis.figure == "reward"
        else None
    )
    return HypothesisTest(
        hypothesis,
        result.difference,
        result.p,
        adjusted,
        figures.detectable(result.better, result.worse, level),
        beside.difference if beside else None,
        len(result.better[0]),
        expected=(result.difference.value > 0) == FIGURES[hypothesis.figure].higher_is_better,
    )
