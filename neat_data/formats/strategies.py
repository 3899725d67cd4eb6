"""Which pairs of a dataset are worth keeping: strategies by name, each with its source.

A record gives one pair. A strategy orders the records by what rewards say of their pairs, and the first so many are
kept: `large-gap:2000`, `agree:0.5`, `small-gap@implicit:0.1` (gaps by scores that `neat-data rescore` stored under that
name). `random` of the same number is the control of every other one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neat_data.errors import InputError
from neat_data.formats.preferences import ONE_PAIR, Pair, Skipped
from neat_data.record import Record

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The pairs that there are to choose from.

    Attributes:
        ids: of their queries.
        gaps: reward of chosen minus reward of rejected, NaN where one has none, by model  # (models, pairs)
    """

    ids: tuple[str, ...]
    gaps: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """By the model that decides  # (pairs,)"""
        return self.gaps[0]


Strategy = Callable[[Candidates], np.ndarray]
"""What comes first: the higher the number, the sooner; NaN is never kept  # (pairs,)"""


def large_gap(pairs: Candidates) -> np.ndarray:
    """The largest gaps (margin maximisation; Deng et al. 2025, arXiv 2502.14560)."""
    return pairs.gap


def small_gap(pairs: Candidates) -> np.ndarray:
    """The gaps nearest to 0; measured by a policy's own log-ratios, those of which it is least certain (Qi et al. 2025,
    arXiv 2508.04149)."""
    return -np.abs(pairs.gap)


def middle_gap(pairs: Candidates) -> np.ndarray:
    """The gaps nearest to their median: neither the uninformative nor the outliers (beta-DPO's filter around the mean,
    Wu et al. 2024, arXiv 2407.08639)."""
    known = pairs.gap[~np.isnan(pairs.gap)]
    return -np.abs(pairs.gap - np.median(known)) if len(known) else pairs.gap


def agree(pairs: Candidates) -> np.ndarray:
    """Pairs that every model orders alike, at random: votes of several reward models tell sound labels from doubtful
    ones (Wang et al. 2024, arXiv 2401.06080)."""
    return np.where(_unanimous(pairs), random(pairs), np.nan)


def disagree(pairs: Candidates) -> np.ndarray:
    """Pairs that models order differently, or do not tell apart, at random: the complement of `agree`."""
    return np.where(_unanimous(pairs) | np.isnan(pairs.gaps).any(axis=0), np.nan, random(pairs))


def random(pairs: Candidates) -> np.ndarray:
    """Any, by a hash of the query's id: the control of the others."""
    digests = (hashlib.sha256(f"random pairs {query}".encode()).digest() for query in pairs.ids)
    return np.array([int.from_bytes(digest[:6], "big") / 2**48 for digest in digests])


STRATEGIES: Mapping[str, Strategy] = {
    "large-gap": large_gap,
    "small-gap": small_gap,
    "middle-gap": middle_gap,
    "agree": agree,
    "disagree": disagree,
    "random": random,
}
_OF_MODELS = ("agree", "disagree")


@dataclass(frozen=True, slots=True)
class Keep:
    """A strategy, by which scores, and how many pairs: a share below 1, or a number of them."""

    strategy: str
    scores: str | None
    count: float

    @classmethod
    def parse(cls, text: str) -> Keep:
        """What `STRATEGY[@SCORES]:COUNT` says.

        Raises:
            InputError: it says something else.

        >>> Keep.parse("small-gap@implicit:0.25")
        Keep(strategy='small-gap', scores='implicit', count=0.25)
        """
        named, _, count = text.rpartition(":")
        strategy, at, scores = named.partition("@")
        number = _number(count)
        if strategy not in STRATEGIES or number is None or (bool(at) and not scores):
            raise InputError(
                f"takes STRATEGY:COUNT or STRATEGY@SCORES:COUNT, say large-gap:0.5 or random:2000; strategies are "
                f"{', '.join(STRATEGIES)}",
                field="keep_pairs",
                value=repr(text),
            )
        if scores and strategy in (*_OF_MODELS, "random"):
            raise InputError(f"{strategy} goes by no scores of one model", field="keep_pairs", value=repr(text))
        return cls(strategy, scores or None, number)

    def kept(self, pairs: Candidates) -> frozenset[str]:
        """The queries whose pairs are kept: the first of the strategy's order, equals by their ids.

        Raises:
            InputError: there are not so many.
        """
        first = STRATEGIES[self.strategy](pairs)
        eligible = sorted((-value, query) for value, query in zip(first, pairs.ids, strict=True) if value == value)
        count = int(self.count * len(pairs.ids)) if self.count < 1 else int(self.count)
        if not 0 < count <= len(eligible):
            raise InputError(
                f"of {len(pairs.ids):,} pairs {self.strategy} has {len(eligible):,} to keep {count:,} of",
                field="keep_pairs",
            )
        return frozenset(query for _, query in eligible[:count])


def pairs_of(records: Iterable[Record], word: str | None = None, min_gap: float | None = None) -> dict[str, Pair]:
    """The one pair that each record gives, by its query; without those that give none.

    Args:
        word: of `options.words.PairsOf`; None: best-worst.
        min_gap: as the functions of `preferences` take it.
    """
    pairs = {}
    for record in records:
        with suppress(Skipped):
            pairs[record.query_id] = ONE_PAIR[word or "best-worst"](record, min_gap)[0]
    return pairs


def keep(dataset: PreferenceDataset, wanted: Keep, pairs: Mapping[str, Pair], rank_by: str | None) -> frozenset[str]:
    """The queries whose pairs a strategy keeps.

    Args:
        pairs: of each query that takes part, the pair that it gives.
        rank_by: the ranking that the pairs were found in, as `PreferenceDataset.records` takes it.

    Raises:
        InputError: unknown scores, one model alone where several are asked, or too few pairs.
    """
    models: Sequence[str | None] = [wanted.scores or rank_by]
    if wanted.strategy in _OF_MODELS:
        models = dataset.models
        if len(models) < 2:
            raise InputError(
                f"{wanted.strategy} needs two models, and {dataset.path} has one",
                field="keep_pairs",
                advice="`neat-data rescore` scores it with another",
            )
    if wanted.strategy == "random":
        return wanted.kept(Candidates(tuple(pairs), np.zeros((1, len(pairs)))))
    return wanted.kept(Candidates(tuple(pairs), np.array([_gaps(dataset, by, pairs) for by in models])))


def _gaps(dataset: PreferenceDataset, by: str | None, pairs: Mapping[str, Pair]) -> list[float]:
    """What a model makes of the pairs, NaN where it scored one side or none, in their order."""
    known = dict(_gaps_of(dataset.records(rank_by=by, dropped=True), pairs))
    return [known.get(query, np.nan) for query in pairs]


def _gaps_of(records: Iterable[Record], pairs: Mapping[str, Pair]) -> Iterator[tuple[str, float]]:
    for record in records:
        if (pair := pairs.get(record.query_id)) is not None:
            reward = {each.response_id: each.reward for each in record.responses}
            better, worse = (reward.get(each.response_id) for each in (pair.chosen, pair.rejected))
            if better is not None and worse is not None:
                yield record.query_id, better - worse


def _unanimous(pairs: Candidates) -> np.ndarray:
    return np.asarray((pairs.gaps > 0).all(axis=0) | (pairs.gaps < 0).all(axis=0))


def _number(text: str) -> float | None:
    """A share between 0 and 1, or a whole number from 1."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < 1 or (number >= 1 and number == int(number)) else None
