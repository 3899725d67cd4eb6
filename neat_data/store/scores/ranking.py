"""What `--rank-by` means: which rewards stand in for the dataset's own when records are read.

`RankBy` is the request, `Rankings` the rewards behind it, shard by shard. One model's scores are taken as they are;
`mean` and `min` put several models on one scale first: each model's rewards minus their mean, over their standard
deviation (of the population), over all responses of the dataset that no reviewer dropped. The sums are exact, so that
the same responses in other shards or another order give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neat_data.errors import InputError
from neat_data.store.join import Answers, answers
from neat_data.store.location import Location
from neat_data.store.manifest import Manifest
from neat_data.store.scores.format import FILE, FOLDER, OWN, Scores, read_scores, shards_of
from neat_data.store.shard import ShardEntry, read_shard


@dataclass(frozen=True)
class RankBy:
    """One model's scores (`how` is `one`), or the mean or the minimum over several standardised ones."""

    how: Literal["one", "mean", "min"]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, available: Sequence[str]) -> RankBy:
        """Read `NAME`, `mean`, `min`, `mean:A,B` or `min:A,B`.

        Args:
            available: names of the scores that the dataset has; `reward`, its own, is one more.

        Raises:
            InputError: no such scores, or a name stands twice.
        """
        how, colon, several = text.partition(":")
        if how not in ("mean", "min"):
            made = cls("one", (text,))
        else:
            made = cls(how, tuple(several.split(",")) if colon else (OWN, *available))  # type: ignore[arg-type]
        unknown = [name for name in made.names if name not in (OWN, *available)]
        if unknown or len(set(made.names)) < len(made.names):
            raise InputError(
                f"{f'there are no scores {unknown[0]!r}' if unknown else 'a name stands twice'}.\n"
                f"There are: {', '.join((OWN, *available))}; `neat-data rescore` makes more.",
                field="rank_by",
                value=text,
            )
        return made


@dataclass(frozen=True)
class Rankings:
    """The rewards of a dataset's responses under its own and every further model.

    Attributes:
        dropped: ids of the responses that people dropped.
    """

    location: Location
    manifest: Manifest
    dropped: frozenset[str]
    _scales: dict[str, tuple[float, float]] = field(default_factory=dict)

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """What `scores/` holds, by name.

        Raises:
            InputError: a manifest of scores is damaged.
        """
        by_name = {}
        for name in self.location.folders(FOLDER):
            content = self.location.read(f"{FOLDER}/{name}/{FILE}")
            if content is not None:
                by_name[name] = Scores.from_bytes(content, f"{FOLDER}/{name}/{FILE}")
        return by_name

    @property
    def models(self) -> tuple[str, ...]:
        """The dataset's own rewards and the further ones, as `--rank-by` names them."""
        return (OWN, *self.scores)

    def shards(self, number: int) -> list[tuple[int, ShardEntry]]:
        """(round, entry) of every shard of this number, the base first."""
        return self._numbered[number]

    def answers(self, number: int) -> tuple[pa.Table, Answers]:
        """A base shard and the responses of all rounds to its queries."""
        base, *added = (read_shard(self.location.shard(entry)) for _, entry in self.shards(number))
        return base, answers(base, added)

    def rewards(self, name: str, number: int, answers: Answers, *, partial: bool = False) -> np.ndarray:
        """One model's rewards for the responses of a base shard in all rounds: float32, NaN where there is none.

        Args:
            partial: whether responses that were not scored yet are NaN, or an error.

        Raises:
            InputError: responses were not scored yet, or the scores are damaged.
        """
        if name == OWN:
            return answers.rewards
        ids, begin, read = answers.column("response_id"), 0, []
        for round, shard in self.shards(number):
            scored = self.scores[name].shard(round, number, shard.sha256)
            if scored is not None:
                path = self.location.shard(scored.entry)
                read.append(read_scores(path, ids.slice(begin, shard.responses)))
            elif partial:
                read.append(np.full(shard.responses, np.nan, dtype=np.float32))
            else:
                raise InputError(
                    f"scores/{name}: shard {number} of round {round} was not scored yet.\n"
                    f"Rescore again: the same `neat-data rescore … --name {name}` scores only what is missing."
                )
            begin += shard.responses
        return np.concatenate(read)

    def refusals(self, name: str, number: int) -> dict[str, str]:
        """Why a further model gave no score, by response id, for the responses of a base shard in all rounds."""
        refused: dict[str, str] = {}
        for round, shard in self.shards(number):
            scored = self.scores[name].shard(round, number, shard.sha256)
            if scored is not None and scored.refused:
                table = read_shard(self.location.shard(scored.entry)).select(["response_id", "refused"])
                refused |= {row["response_id"]: row["refused"] for row in table.to_pylist() if row["refused"]}
        return refused

    def ranking(self, by: RankBy, number: int, answers: Answers) -> np.ndarray:
        """The rewards to rank by, float32; NaN where a model that is asked for refused the response."""
        if by.how == "one":
            return self.rewards(by.names[0], number, answers)
        standardised = []
        for name in by.names:
            mean, deviation = self._scale(name)
            standardised.append((self.rewards(name, number, answers).astype(np.float64) - mean) / deviation)
        together = np.mean(standardised, axis=0) if by.how == "mean" else np.min(standardised, axis=0)
        return together.astype(np.float32)

    def left_out(self, by: RankBy) -> int:
        """How many responses the ranking leaves out because a model refused them."""
        if not any(self.scores[name].refused for name in by.names if name != OWN):
            return 0
        return sum(int(np.isnan(part).sum()) for part in self._kept_rewards(by))

    @cached_property
    def _numbered(self) -> dict[int, list[tuple[int, ShardEntry]]]:
        by_number: dict[int, list[tuple[int, ShardEntry]]] = {}
        for round, number, entry in shards_of(self.manifest):
            by_number.setdefault(number, []).append((round, entry))
        return by_number

    def _kept_rewards(self, by: RankBy) -> Iterator[np.ndarray]:
        """What `ranking` gives, without the responses that people dropped."""
        for number in self.manifest.round(0).numbers():
            _, answers = self.answers(number)
            yield self.ranking(by, number, answers)[kept(answers, self.dropped)]

    def _scale(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of one model's rewards; 1 for the latter where they are all the same."""
        if name not in self._scales:
            parts = [np.empty(0, np.float32), *self._kept_rewards(RankBy("one", (name,)))]
            rewards = np.concatenate(parts).astype(np.float64)
            rewards = rewards[~np.isnan(rewards)]
            mean = _mean(rewards)
            self._scales[name] = mean, math.sqrt(_mean((rewards - mean) ** 2)) or 1.0
        return self._scales[name]


def _mean(values: np.ndarray) -> float:
    """By an exact sum, so that the order of the values does not matter; 0 where there are none."""
    return math.fsum(values.tolist()) / max(1, len(values))


def kept(answers: Answers, dropped: frozenset[str]) -> np.ndarray:
    """Which responses no reviewer dropped, bool."""
    if not dropped:
        return np.ones(len(answers.record), dtype=bool)
    hits = pc.is_in(answers.column("response_id"), value_set=pa.array(sorted(dropped)))
    return ~hits.to_numpy(zero_copy_only=False)
