"""How far several reward models agree: with each other inside every record, and with people on every pair.

`compare` makes narrow columns of one batch of records, `agreement` the figures of all of them. Pure functions of numpy
arrays; reading is `columns`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from neat_data.analysis.measures import Mean, Share, mean, share, tau_b


@dataclass(frozen=True, slots=True)
class Compared:
    """What the models say, as numbers.

    Attributes:
        tau: Kendall's tau-b, float32 (records, pairs of models); NaN where it is not defined.
        gap: reward of chosen minus reward of rejected, float32 (pairs, models); NaN where a model did not score both.
        scored: responses with a reward, int64 (batches, models).
    """

    tau: np.ndarray
    gap: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True, slots=True)
class TwoModels:
    """Two models: the mean over records of Kendall's tau-b between their rewards, and how many records do not tell."""

    first: str
    second: str
    tau: Mean
    undefined: int


@dataclass(frozen=True, slots=True)
class OneModel:
    """One model: responses with and without its reward, and pairs on which it sides with people, its ties left out."""

    name: str
    scored: int
    unscored: int
    people: Share


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the models agree.

    Attributes:
        models: as `--rank-by` names them.
        two: every two models.
        one: every model.
        with_people, against_people: pairs on which all models prefer what people chose, or what they rejected.
        disputed: pairs on which one model prefers what people chose and another what they rejected.
        tied: the other pairs: no dispute, but a tie in at least one model.
        people_on_shared: of the pairs on which all models agree, those on which they side with people.
    """

    models: tuple[str, ...]
    two: tuple[TwoModels, ...]
    one: tuple[OneModel, ...]
    with_people: Share
    against_people: Share
    disputed: Share
    tied: Share
    people_on_shared: Share


def compare(rewards: np.ndarray, sizes: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> Compared:
    """One batch of records.

    Args:
        rewards: float32 (responses, models), record after record; NaN where there is none.
        sizes: responses of each record.
        chosen, rejected: the numbers of the responses of each pair.
    """
    two = list(combinations(range(rewards.shape[1]), 2))
    taus = [tau_b(rewards[:, i], rewards[:, j], sizes).astype(np.float32) for i, j in two]
    scored = np.count_nonzero(~np.isnan(rewards), axis=0)
    return Compared(np.stack(taus, axis=1), rewards[chosen] - rewards[rejected], scored[None])


def agreement(compared: Compared, models: Sequence[str], record: np.ndarray, responses: int) -> Agreement | None:
    """The figures of everything that was compared; None where nothing was read.

    Args:
        compared: all batches together.
        models: their names.
        record: the record of each pair, ascending.
        responses: how many were read.
    """
    if not len(compared.scored):
        return None
    scored = compared.scored.sum(axis=0)
    every = ~np.isnan(compared.gap).any(axis=1)  # the same pairs for all models, so that their figures compare
    gap, record = compared.gap[every], record[every]
    up, down = (gap > 0).any(axis=1), (gap < 0).any(axis=1)
    with_people, against_people = (gap > 0).all(axis=1), (gap < 0).all(axis=1)
    shared = with_people | against_people
    return Agreement(
        models=tuple(models),
        two=tuple(
            _two(models[i], models[j], compared.tau[:, column])
            for column, (i, j) in enumerate(combinations(range(len(models)), 2))
        ),
        one=tuple(
            OneModel(name, int(scored[i]), responses - int(scored[i]), _people(gap[:, i], record))
            for i, name in enumerate(models)
        ),
        with_people=share(with_people, record),
        against_people=share(against_people, record),
        disputed=share(up & down, record),
        tied=share(~shared & ~(up & down), record),
        people_on_shared=share(with_people[shared], record[shared]),
    )


def _two(first: str, second: str, taus: np.ndarray) -> TwoModels:
    known = taus[~np.isnan(taus)]
    interval = mean(known)
    if interval.low is not None and interval.high is not None:
        interval = replace(interval, low=max(-1.0, interval.low), high=min(1.0, interval.high))
    return TwoModels(first, second, interval, len(taus) - len(known))


def _people(gap: np.ndarray, record: np.ndarray) -> Share:
    decided = gap != 0
    return share(gap[decided] > 0, record[decided])
