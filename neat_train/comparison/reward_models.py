"""Reward models beside each other on one dataset that all of them scored: whom they agree with, and with each other.

The dataset's own model and those of `neat-data rescore` are compared on the records that every one of them scored
whole. `accuracy` is the share of people's pairs, `best_of` of records in which the right answer has the highest score
of all, `ties` RewardBench 2's score of records with several right answers (arXiv 2506.01937; formula of
`process_single_model` in allenai/reward-bench, rewardbench/utils.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from neat_data.analysis.measures import Share, share, tau_b
from neat_data.errors import InputError
from neat_data.labels import orders, verdicts
from neat_data.plain import Plain
from neat_data.record import Record
from neat_data.report.tables import MISSING, Table, number
from neat_data.store.dataset import PreferenceDataset
from neat_train.reward_model.measures import Pairs, calibration


@dataclass(frozen=True, slots=True)
class Question:
    """One record as the models see it.

    Attributes:
        name: of its row, `ref:N` or `tied:N` in RewardBench 2; its query's id elsewhere.
        right, wrong: numbers of responses.
        pairs: numbers of better and worse responses, of all labels.
    """

    name: str
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    pairs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Ties(Plain):
    """RewardBench 2's figures of records with several right answers.

    Attributes:
        records: with several right answers.
        tied_accuracy: share in which each right answer scores above every wrong one.
        preferred: share in which right answers lie closer together than to the best wrong one.
        score: the weighed sum with the records of one right answer that belong to them (`ref:N` to `tied:N`); None
            where there are none.
    """

    records: int
    tied_accuracy: float
    preferred: float
    score: float | None


@dataclass(frozen=True, slots=True)
class ComparedReward(Plain):
    """One reward model.

    Attributes:
        accuracy: on pairs that people put in order; a tie is a miss.
        ece: expected calibration error of sigmoid(difference).
        best_of: the mean over records with three answers or more of 1 / (answers at the top) where the right one is
            there, else 0.
        best_of_records: how many these are.
    """

    name: str
    accuracy: Share
    ece: float | None
    best_of: float | None
    best_of_records: int
    ties: Ties | None


@dataclass(frozen=True, slots=True)
class ComparedRewards(Plain):
    """The figures of all; `agreement` holds for every two of them the mean of Kendall's tau-b over records."""

    dataset: str
    records: int
    models: tuple[ComparedReward, ...]
    agreement: Mapping[str, float | None]


def compare_rewards(path: str) -> ComparedRewards:
    """Compare the reward models that scored a dataset.

    Raises:
        InputError: it is not finished, holds no labels, or no record that every model scored.
    """
    dataset = PreferenceDataset.open(path)
    own = str((dataset.manifest.settings.get("reward_model") or {}).get("model") or "own")
    names = dataset.models
    questions, columns, sizes = _read(dataset, names)
    if not questions:
        raise InputError(f"{path}: holds no record with a label that every reward model scored whole")
    labels = [own, *names[1:]]
    models = tuple(_figures(name, questions, column) for name, column in zip(labels, columns, strict=True))
    return ComparedRewards(Path(path).resolve().name, len(questions), models, _agreement(labels, columns, sizes))


def _read(
    dataset: PreferenceDataset, names: Sequence[str]
) -> tuple[list[Question], list[list[np.ndarray]], np.ndarray]:
    """The questions, for every model the scores of each one's responses, and how many these are."""
    questions: list[Question] = []
    columns: list[list[np.ndarray]] = [[] for _ in names]
    scored = [_scores(dataset, name) for name in names]
    for record in dataset.records():
        values = [[scores.get(each.response_id) for each in record.responses] for scores in scored]
        if (asked := question(record)) is None or any(value is None for row in values for value in row):
            continue
        questions.append(asked)
        for column, row in zip(columns, values, strict=True):
            column.append(np.array(row, dtype=np.float64))
    return questions, columns, np.array([len(each) for each in columns[0]], dtype=np.int64)


def _scores(dataset: PreferenceDataset, name: str) -> dict[str, float | None]:
    """What a model gave every response."""
    return {each.response_id: each.reward for record in dataset.records(rank_by=name) for each in record.responses}


def question(record: Record) -> Question | None:
    """A record's right and wrong answers: what people accepted and what not, or the first of an order and all others
    of the source; None where no label says anything.
    """
    number = {response.response_id: place for place, response in enumerate(record.responses)}
    ordered = tuple(tuple(number[each.response_id] for each in order) for order in orders(record))
    judged = [(number[each.response_id], verdict) for each, verdict in verdicts(record)]
    right = tuple(place for place, verdict in judged if verdict)
    wrong = tuple(place for place, verdict in judged if not verdict)
    if ordered and not judged:
        right = ordered[0][:1]
        source = (number[each.response_id] for each in record.responses if each.origin == "source")
        wrong = tuple(place for place in source if place not in right)
    pairs = ordered or tuple((better, worse) for better in right for worse in wrong)
    name = str(json.loads(record.meta or "{}").get("id") or record.query_id)
    return Question(name, right, wrong, pairs) if pairs else None


def _figures(name: str, questions: Sequence[Question], scores: Sequence[np.ndarray]) -> ComparedReward:
    asked = list(zip(questions, scores, strict=True))
    pairs = Pairs.of([(values.tolist(), each.pairs) for each, values in asked])
    several = [best_of(values, each) for each, values in asked if len(each.right) == 1 and len(each.wrong) > 1]
    return ComparedReward(
        name=name,
        accuracy=share(pairs.gap > 0, pairs.record),
        ece=calibration(pairs).get("ece"),
        best_of=float(np.mean(several)) if several else None,
        best_of_records=len(several),
        ties=ties([(each.name, values[list(each.right)], values[list(each.wrong)]) for each, values in asked]),
    )


def best_of(scores: np.ndarray, asked: Question) -> float:
    """1 / (answers that share the highest score) where the right one does, else 0, as RewardBench 2 counts.

    >>> best_of(np.array([1.0, 1.0, 0.0, -1.0]), Question("a", (0,), (1, 2, 3), ()))
    0.5
    """
    taking_part = scores[[*asked.right, *asked.wrong]]
    top = taking_part == taking_part.max()
    return float(top[0] / top.sum())


def ties(rows: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Ties | None:
    """The figures of rows with several right answers; None where there is none.

    Args:
        rows: name, scores of the right answers, scores of the wrong ones.
    """
    spread, apart = {}, {}
    for name, right, wrong in rows:
        if len(right) and len(wrong):
            apart[name] = float(right.min() - wrong.max())
            spread[name] = float(right.max() - right.min())
    tied = [name for name, right, _ in rows if name in apart and len(right) > 1]
    if not tied:
        return None
    return Ties(
        records=len(tied),
        tied_accuracy=float(np.mean([apart[name] > 0 for name in tied])),
        preferred=float(np.mean([apart[name] > spread[name] for name in tied])),
        score=_weighed(apart, spread),
    )


def _weighed(apart: Mapping[str, float], spread: Mapping[str, float]) -> float | None:
    """RewardBench 2's sum: .3 for each of both accuracies, .2 for each comparison of margins, .01 for how far."""
    tied, ref = ([name for name in apart if name.startswith(kind)] for kind in ("tied:", "ref:"))
    both = [name for name in tied if name.replace("tied:", "ref:") in apart]
    if not both:
        return None
    smaller = [min(apart[name], apart[name.replace("tied:", "ref:")]) for name in both]
    accuracies = [float(np.mean([apart[name] > 0 for name in names])) for names in (tied, ref)]
    preferred = float(np.mean([apart[name] > spread[name] for name in both]))
    hard = float(np.mean([least > spread[name] for name, least in zip(both, smaller, strict=True)]))
    far = [_tanh(least, spread[name]) for name, least in zip(both, smaller, strict=True)]
    return 0.3 * sum(accuracies) + 0.2 * preferred + 0.2 * hard + 0.01 * float(np.mean(far))


def _tanh(margin: float, spread: float) -> float:
    """tanh(margin / spread - 1), as numpy divides by 0; of 0 / 0 it is 0."""
    if spread:
        return math.tanh(margin / spread - 1)
    return math.copysign(1.0, margin) if margin else 0.0


def _agreement(names: Sequence[str], columns: Sequence[list[np.ndarray]], sizes: np.ndarray) -> dict[str, float | None]:
    joined = [np.concatenate(column) for column in columns]
    agreement: dict[str, float | None] = {}
    for i, j in combinations(range(len(names)), 2):
        known = tau_b(joined[i], joined[j], sizes)
        known = known[~np.isnan(known)]
        agreement[f"{names[i]}, {names[j]}"] = float(known.mean()) if len(known) else None
    return agreement


def tables(comparison: ComparedRewards) -> list[Table]:
    """The figures for a terminal or Markdown."""
    rows = tuple(_row(model) for model in comparison.models)
    columns = (
        "reward model",
        "accuracy",
        "95 % interval",
        "calibration error",
        "best of k",
        "ties accuracy",
        "ties score",
    )
    pairs = comparison.models[0].accuracy.total
    scored = f"{comparison.records:,} records of {comparison.dataset} that all models scored"
    note = f"On {scored}, {pairs:,} pairs; a tie is a miss."
    agreement = tuple((names, number(tau)) for names, tau in comparison.agreement.items())
    both = Table("Agreement", ("reward models", "Kendall's tau-b"), agreement, "The mean over records.")
    return [Table("Reward models", columns, rows, note), *([both] if agreement else [])]


def _row(model: ComparedReward) -> tuple[str, ...]:
    accuracy, ties_ = model.accuracy, model.ties
    interval: Any = MISSING
    if accuracy.low is not None and accuracy.high is not None:
        interval = f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"
    return (
        model.name,
        _per_cent(accuracy.share),
        interval,
        _per_cent(model.ece),
        _per_cent(model.best_of),
        _per_cent(None if ties_ is None else ties_.tied_accuracy),
        number(None if ties_ is None else ties_.score),
    )


def _per_cent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"
