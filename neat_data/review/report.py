"""What the verdicts of a dataset say together: counts, how far people agree, and how far reward models agree with them.

A reward model is heard as one rater more: of two responses it calls the one with the lower reward worse, and it drops
those with the lowest rewards, as many as people dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from neat_data.errors import InputError
from neat_data.record import Record
from neat_data.review.agreement import Coefficient, Level, alpha, kappa
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.review_labels import accepted, preferences
from neat_data.store.reviews import Event, pair_id, standing

MOST = 20  # of the lists of disagreements
LEVELS: dict[str, Level] = {"keep or drop": "nominal", "which is better": "nominal", "grade": "ordinal"}


@dataclass(frozen=True)
class RaterCounts:
    """What one rater said; `grade` is the mean of their grades."""

    rater: str
    judged: int
    kept: int
    dropped: int
    off_prompt: int
    edited: int
    compared: int
    grade: float | None


@dataclass(frozen=True)
class Stratum:
    """The responses sampled under one kind of prompt whose rewards lie in one quarter of all (1: the lowest; 0: none).

    `kept` and `dropped` count responses by what most of their raters said, a draw as neither.
    """

    prompt: str
    quartile: int
    responses: int
    judged: int
    kept: int
    dropped: int


@dataclass(frozen=True)
class Between:
    """Cohen's kappa of two raters, or of people and a model."""

    one: str
    other: str
    kappa: Coefficient


@dataclass(frozen=True)
class Asked:
    """One thing that was asked: agreement of all raters, of each two, and of each model with most of the people."""

    name: str
    alpha: Coefficient
    raters: tuple[Between, ...]
    models: tuple[Between, ...]
    models_alpha: dict[str, Coefficient]


@dataclass(frozen=True)
class Contradiction:
    """Two responses of one query whose rewards contradict what most raters said of them; `gap` is the reward's."""

    query_id: str
    preferred: str
    other: str
    gap: float
    model: str
    texts: tuple[str, str]


@dataclass(frozen=True)
class Split:
    """A response that some kept and others dropped."""

    query_id: str
    response_id: str
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Report:
    """The whole; `to_dict` makes JSON of it."""

    raters: tuple[RaterCounts, ...]
    strata: tuple[Stratum, ...]
    questions: tuple[Asked, ...]
    contradictions: tuple[Contradiction, ...]
    splits: tuple[Split, ...]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def report(dataset: PreferenceDataset) -> Report:
    """Read the reviews of a dataset, and the records that they speak of.

    Raises:
        InputError: nobody has judged anything; a line of `reviews/` cannot be read.
    """
    said = {rater: standing(events) for rater, events in sorted(dataset.reviews.items())}
    said = {rater: events for rater, events in said.items() if events}
    if not said:
        raise InputError(f"{dataset.path}: nobody has judged anything yet; `neat-data review {dataset.path}` asks.")
    judged = _Judged(dataset, said)
    return Report(
        raters=tuple(_counts(rater, events) for rater, events in said.items()),
        strata=tuple(judged.strata()),
        questions=tuple(judged.question(name) for name in LEVELS if judged.units(name)),
        contradictions=tuple(judged.contradictions()),
        splits=tuple(judged.splits()),
        left_out=dataset.dropped_count,
    )


def _counts(rater: str, events: Mapping[str, Event]) -> RaterCounts:
    by = Counter(event.verdict for event in events.values())
    grades = [event.scale for event in events.values() if event.scale is not None]
    compared = sum(by[verdict] for verdict in ("worse", "same"))
    grade = float(np.mean(grades)) if grades else None
    judged = len(events) - compared
    return RaterCounts(rater, judged, by["keep"], by["drop"], by["off_prompt"], by["edit"], compared, grade)


@dataclass(frozen=True)
class _Judged:
    """The records that raters spoke of, and what they said, a unit (a response or a pair) a column."""

    dataset: PreferenceDataset
    said: Mapping[str, Mapping[str, Event]]

    @cached_property
    def records(self) -> dict[str, tuple[Record, dict[str, dict[str, float]]]]:
        """By query: the record, and by model the rewards by response."""
        ids = sorted({response for events in self.said.values() for subject in events for response in subject.split()})
        known = pl.element().struct.field("response_id").is_in(pl.Series(ids, dtype=pl.String).implode())
        spoken = pl.col("responses").list.eval(known).list.any()
        rows = self.dataset.scan_records(dropped=True, scores=True).filter(spoken).collect().iter_rows(named=True)
        return {row["query_id"]: _with_rewards(row) for row in rows}

    @cached_property
    def ratings(self) -> dict[str, dict[str, dict[str, float]]]:
        """By question, by rater: a code for every unit."""
        return {name: {rater: self._codes(name, events) for rater, events in self.said.items()} for name in LEVELS}

    @cached_property
    def query_of(self) -> dict[str, str]:
        """The query of every response."""
        return {answer.response_id: query for query, (record, _) in self.records.items() for answer in record.responses}

    def units(self, name: str) -> list[str]:
        return list(dict.fromkeys(unit for codes in self.ratings[name].values() for unit in codes))

    def question(self, name: str) -> Asked:
        units, level = self.units(name), LEVELS[name]
        queries = {query: number for number, query in enumerate(self.records)}
        clusters = np.array([queries[self.query_of[unit.split()[0]]] for unit in units])
        people = {rater: _row(codes, units) for rater, codes in self.ratings[name].items()}
        people = {rater: row for rater, row in people.items() if not np.isnan(row).all()}
        most = _row(self.majority(name), units)
        models = {} if name == "grade" else {m: _row(self._model(name, m), units) for m in self.dataset.models}
        return Asked(
            name,
            alpha(np.stack(list(people.values())), clusters, level),
            tuple(Between(a, b, kappa(people[a], people[b], clusters, level)) for a, b in combinations(people, 2)),
            tuple(Between("people", model, kappa(most, row, clusters, level)) for model, row in models.items()),
            {model: alpha(np.stack([most, row]), clusters, level) for model, row in models.items()},
        )

    def majority(self, name: str) -> dict[str, float]:
        """What more than half of its raters said of a unit."""
        votes: dict[str, Counter[float]] = {}
        for codes in self.ratings[name].values():
            for unit, code in codes.items():
                votes.setdefault(unit, Counter())[code] += 1
        first = {unit: count.most_common(1)[0] for unit, count in votes.items()}
        return {unit: code for unit, (code, n) in first.items() if 2 * n > votes[unit].total()}

    def strata(self) -> list[Stratum]:
        frame = self.dataset.scan(dropped=True).select("response_id", "polarity", "reward").collect()
        rewards = frame["reward"].to_numpy().astype(np.float64)
        edges = np.nanquantile(rewards, (0.25, 0.5, 0.75)) if not np.isnan(rewards).all() else []
        quartiles = np.where(np.isnan(rewards), 0, np.searchsorted(edges, rewards, side="left") + 1)
        verdicts, judged = self.majority("keep or drop"), set(self.units("keep or drop"))
        counts: dict[tuple[str, int], Counter[str]] = {}
        prompts = frame["polarity"].fill_null("none")
        for response, prompt, quartile in zip(frame["response_id"], prompts, quartiles.tolist(), strict=True):
            count = counts.setdefault((prompt, quartile), Counter())
            count["responses"] += 1
            count["judged"] += response in judged
            count["kept"] += verdicts.get(response) == 1
            count["dropped"] += verdicts.get(response) == 0
        names = ("responses", "judged", "kept", "dropped")
        return [
            Stratum(*key, *(counts[key][name] for name in names)) for key in sorted(counts) if counts[key]["judged"]
        ]

    def contradictions(self) -> list[Contradiction]:
        """Where a model's order contradicts people most, the widest gap first."""
        cases = []
        for unit, code in self.majority("which is better").items():
            one, other = unit.split() if code == 1 else reversed(unit.split())
            if code != 2:
                cases += self._contradicted(one, other)
        return sorted(cases, key=lambda case: (-case.gap, case.preferred, case.model))[:MOST]

    def _contradicted(self, preferred: str, other: str) -> list[Contradiction]:
        query = self.query_of[preferred]
        record, rewards = self.records[query]
        texts = record.response(preferred).text, record.response(other).text
        gaps = {model: of[other] - of[preferred] for model, of in rewards.items() if {preferred, other} <= of.keys()}
        return [Contradiction(query, preferred, other, gap, model, texts) for model, gap in gaps.items() if gap > 0]

    def splits(self) -> list[Split]:
        """Responses on which raters disagree, those most evenly split first."""
        codes = self.ratings["keep or drop"]
        cases = []
        for unit in self.units("keep or drop"):
            kept, dropped = (tuple(r for r in codes if codes[r].get(unit) == code) for code in (1, 0))
            if kept and dropped:
                record, _ = self.records[self.query_of[unit]]
                cases.append(Split(record.query_id, unit, kept, dropped, record.response(unit).text))
        return sorted(cases, key=lambda case: (-min(len(case.kept), len(case.dropped)), case.response_id))[:MOST]

    def _codes(self, name: str, events: Mapping[str, Event]) -> dict[str, float]:
        if name == "which is better":
            return self._orders(events)
        single = {unit: event for unit, event in events.items() if unit in self.query_of}
        if name == "grade":
            return {unit: float(event.scale - 1) for unit, event in single.items() if event.scale is not None}
        verdicts = {unit: accepted(event) for unit, event in single.items()}
        return {unit: float(verdict) for unit, verdict in verdicts.items() if verdict is not None}

    def _orders(self, events: Mapping[str, Event]) -> dict[str, float]:
        """1 where the first of the pair's ids is better, 0 where the second is, 2 where neither."""
        votes = {unit: 2.0 for unit, event in events.items() if event.verdict == "same" and self._is_here(unit)}
        for record, _ in self.records.values():
            votes |= {pair_id(a, b): float(a < b) for a, b in preferences(record, events)}
        return votes

    def _is_here(self, unit: str) -> bool:
        return all(response in self.query_of for response in unit.split())

    def _model(self, name: str, model: str) -> dict[str, float]:
        """What a model would have said of what people did."""
        most = self.majority(name)
        if name == "which is better":
            of_both = {unit: self._rewards(unit, model) for unit in most}
            return {
                unit: 2.0 if a == b else float(a > b)
                for unit, (a, b) in of_both.items()
                if a is not None and b is not None
            }
        rewards = {unit: reward for unit in most if (reward := self._rewards(unit, model)[0]) is not None}
        lowest = sorted(rewards, key=lambda unit: (rewards[unit], unit))
        dropped = set(lowest[: sum(most[unit] == 0 for unit in rewards)])
        return {unit: float(unit not in dropped) for unit in rewards}

    def _rewards(self, unit: str, model: str) -> list[float | None]:
        of = self.records[self.query_of[unit.split()[0]]][1][model]
        return [of.get(response) for response in unit.split()]


def _with_rewards(row: dict[str, Any]) -> tuple[Record, dict[str, dict[str, float]]]:
    scores = row.pop("scores")
    record = Record.from_dict(row)
    ids = [response.response_id for response in record.responses]
    by_model = {model: zip(ids, values, strict=True) for model, values in scores.items()}
    return record, {model: {i: v for i, v in pairs if v is not None} for model, pairs in by_model.items()}


def _row(codes: Mapping[str, float], units: list[str]) -> np.ndarray:
    return np.array([codes.get(unit, np.nan) for unit in units], dtype=float)
