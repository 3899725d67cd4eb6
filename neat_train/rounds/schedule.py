"""Which queries are sampled together, and when: pure functions of the step, the order of records and two numbers.

The run is a row of places, `records_per_step` a step (the last step of an epoch may leave some of its places empty).
A block begins every `every` places and takes the queries of the next `queries` places; it is sampled at the step that
its first place lies in, for all of the steps that it reaches into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neat_data.errors import InputError
from neat_train.data.order import step_ids, steps_an_epoch


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a run.

    Attributes:
        ids: of the queries that are trained on.
        queries, every: places.
        steps: of the whole run; what lies behind its end is not sampled. None: it has no end.
    """

    ids: tuple[str, ...]
    records_per_step: int
    seed: int
    queries: int
    every: int
    steps: int | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        records_per_step: int,
        seed: int,
        queries: int | Literal["step", "epoch"],
        every: int | None = None,
        steps: int | None = None,
    ) -> Blocks:
        """The blocks that `RoundSettings.queries` and `.every` (not below `queries`) ask for.

        Raises:
            InputError: a block has no query.
        """
        named = {"step": records_per_step, "epoch": records_per_step * steps_an_epoch(len(ids), records_per_step)}
        count = queries if isinstance(queries, int) else named[queries]
        if count < 1:
            raise InputError(f"rounds.queries {queries}: must be at least 1")
        return cls(tuple(ids), records_per_step, seed, count, every or count, steps)

    def starting(self, step: int) -> range:
        """Numbers of the blocks that are sampled at the beginning of a step."""
        return range(self.before(step), self.before(step + 1))

    def start_of(self, number: int) -> int:
        """The step that a block begins at."""
        return number * self.every // self.records_per_step

    def before(self, step: int) -> int:
        """How many blocks begin before a step: those with smaller numbers.

        >>> Blocks(("a", "b", "c", "d"), 2, seed=0, queries=2, every=4).before(3)
        2
        """
        return -(-step * self.records_per_step // self.every)

    def trained_at(self, step: int) -> list[str]:
        """The queries of a step, over all ranks."""
        return step_ids(self.ids, step, self.records_per_step, self.seed)

    def queries_of(self, number: int, rank: int = 0, world: int = 1) -> tuple[str, ...]:
        """The queries of a block that one of `world` ranks trains on, in order; a query that returns stands once.

        All of a block's queries are those of one rank of 1. Who trains on a query in two steps has it from the first.
        """
        owners: dict[str, int] = {}
        first = number * self.every
        end = first + self.queries
        for step in range(first // self.records_per_step, -(-end // self.records_per_step)):
            if self.steps is not None and step >= self.steps:
                break
            start = step * self.records_per_step
            for place, query in enumerate(self.trained_at(step)):
                if first <= start + place < end:
                    owners.setdefault(query, place % world)
        return tuple(query for query, owner in owners.items() if owner == rank)
