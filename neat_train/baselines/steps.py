"""What each rank runs in each optimiser step of a baseline: pure functions of the rows' lengths, the order and ranks.

Every rank works out what all ranks do, so that none has to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neat_train.data.order import step_ids, steps_an_epoch
from neat_train.distributed import Ranks


@dataclass(frozen=True, slots=True)
class Micro:
    """One forward pass of one rank: which rows, and how much its mean loss counts in the step's; 0 of a filler."""

    rows: tuple[int, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class BaselineSteps:
    """The optimiser steps of a run.

    Attributes:
        ids: the query id of every row.
        lengths: tokens of each row's longest sequence.
        learned: tokens of each row that are learned from.
        sequences: of a row.
        records_per_step: over all ranks.
        token_budget: tokens of a micro-batch, padding included; a row above it is alone.
        ranks: this one among all of them.
        places: the row of every query id.
    """

    ids: Sequence[str]
    lengths: Sequence[int]
    learned: Sequence[int]
    sequences: int
    records_per_step: int
    seed: int
    token_budget: int
    ranks: Ranks
    places: Mapping[str, int]

    @property
    def an_epoch(self) -> int:
        """How many an epoch has."""
        return steps_an_epoch(len(self.ids), self.records_per_step)

    def rows(self, step: int) -> list[int]:
        """The rows of a step (from 0), over all ranks."""
        return [self.places[query] for query in step_ids(self.ids, step, self.records_per_step, self.seed)]

    def micros(self, step: int) -> list[Micro]:
        """What this rank runs in a step: as many forward passes as any other, or one would wait for ever."""
        rows, world = self.rows(step), self.ranks.world
        parts = self._packed(rows)[self.ranks.rank]
        return [Micro(tuple(part), world * len(part) / len(rows)) if part else Micro((rows[0],), 0.0) for part in parts]

    def tokens_learned(self, step: int) -> int:
        """Tokens that a step learns from, over all ranks."""
        return sum(self.learned[row] for row in self.rows(step))

    def amounts(self, step: int) -> dict[str, float]:
        """Records and responses of a step, tokens of these and all that run, padding included, over all ranks."""
        rows = self.rows(step)
        parts = [part for share in self._packed(rows) for part in share if part]
        return {
            "tokens": sum(map(self._width, parts)),
            "records": len(rows),
            "responses": len(rows) * self.sequences,
            "response_tokens": self.tokens_learned(step),
        }

    def _packed(self, rows: Sequence[int]) -> list[list[list[int]]]:
        """Every rank's micro-batches: rows of like length together, the longest first.

        The n-th has as many rows on every rank, since TRL gathers its figures row by row; a row that not every rank
        has is by itself, and empty elsewhere.
        """
        world = self.ranks.world
        shares = [sorted(rows[rank::world], key=lambda row: -self.lengths[row]) for rank in range(world)]
        common, made = min(map(len, shares)), 0
        parts: list[list[list[int]]] = [[] for _ in shares]
        while made < common:
            size = 1
            while made + size < common and self._fit(shares, made, size + 1):
                size += 1
            for share, own in zip(shares, parts, strict=True):
                own.append(share[made : made + size])
            made += size
        if len(shares[0]) > common:
            for share, own in zip(shares, parts, strict=True):
                own.append(share[common:])
        return parts

    def _fit(self, shares: Sequence[Sequence[int]], start: int, size: int) -> bool:
        return all(self._width(share[start : start + size]) <= self.token_budget for share in shares)

    def _width(self, part: Sequence[int]) -> int:
        return len(part) * self.sequences * self.lengths[part[0]]
