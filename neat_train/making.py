"""A rank's share of a block: sampled part by part, then scored part by part, each committed at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from neat_data.candidates import Candidate, Rules
from neat_data.grow import judged
from neat_data.models.reward import RewardModel
from neat_data.record import Record
from neat_data.sampling import Draws, drawings, sampled
from neat_data.watch import Watcher
from neat_train.block_files import BlockFiles, Judged, Part
from neat_train.live import Live
from neat_train.placement import awake

PART = 512  # queries: what is sampled at once, and so what a kill may cost


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """What makes parts of blocks.

    Attributes:
        files: where they are committed.
        live: gives the policy as it is now.
        draws, rules: what is sampled, and what of it is used.
        gone: ids of responses that people dropped from the dataset, which may not come again.
    """

    files: BlockFiles
    live: Live
    reward: RewardModel
    draws: Draws
    rules: Rules
    gone: frozenset[str]
    watch: Watcher

    def make(
        self,
        parts: Sequence[tuple[Part, Sequence[str]]],
        identity: dict[str, Any],
        numbers: tuple[int, int],
        record: Callable[[str], Record],
    ) -> dict[str, float]:
        """Sample and score what is not there yet.

        Args:
            parts: with the queries of each.
            identity: of their files; has the hash of the policy as `policy`.
            numbers: what stands for the round in the seeds, and the round that the responses will say they are of.
            record: a query's record with all responses so far.

        Returns:
            Seconds of `sampling` and `scoring`.

        Raises:
            RunError: out of memory even with a small token budget, a full disk, a reward that is not finite.
        """
        scored = [self.files.has_scored(part, identity) for part, _ in parts]
        left = [part for part, done in zip(parts, scored, strict=True) if not done]
        seconds: dict[str, float] = {}
        with _timed("sampling", seconds):
            self._sample(
                [one for one in left if self.files.samples(one[0], identity) is None], identity, numbers, record
            )
        with _timed("scoring", seconds):
            self._score(left, identity, record)
        return seconds

    def _sample(
        self,
        parts: Sequence[tuple[Part, Sequence[str]]],
        identity: dict[str, Any],
        numbers: tuple[int, int],
        record: Callable[[str], Record],
    ) -> None:
        if not parts:
            return
        number, round = numbers
        self.watch.phase("sampling", self.draws.a_query * sum(len(queries) for _, queries in parts))
        with self.live.now(identity["policy"]) as sampler:
            for part, queries in parts:
                before = dict(sampler.usage)
                wanted = drawings([record(query) for query in queries], self.draws, number)
                candidates, budget = sampled(wanted, sampler, round, self.watch.advance)
                usage = {key: count - before.get(key, 0) for key, count in sampler.usage.items()}
                self.files.put_samples(part, candidates, {**identity, "usage": usage, "sampler_token_budget": budget})

    def _score(
        self, parts: Sequence[tuple[Part, Sequence[str]]], identity: dict[str, Any], record: Callable[[str], Record]
    ) -> None:
        if not parts:
            return
        self.watch.phase("scoring", sum(len(queries) for _, queries in parts))
        with awake(self.reward):
            for part, queries in parts:
                found = self.files.samples(part, identity)
                assert found is not None
                candidates, metadata = found
                records = {query: record(query) for query in queries}
                gone = self.gone & {candidate.response.response_id for candidate in candidates}
                outcomes, budget = judged(candidates, records, self.rules, self.reward, self.watch.advance, gone)
                judgement = Judged(candidates, outcomes, [_worst(candidate, records) for candidate in candidates])
                self.files.put_scored(part, judgement, {**metadata, "token_budget": budget})


def parts_of(block: int, rank: int, queries: Sequence[str]) -> list[tuple[Part, Sequence[str]]]:
    """A rank's share of a block in parts, each with its queries."""
    starts = range(0, len(queries), PART)
    return [(Part(block, rank, number), queries[start : start + PART]) for number, start in enumerate(starts)]


def _worst(candidate: Candidate, records: dict[str, Record]) -> float | None:
    rewards = [response.reward for response in records[candidate.query_id].responses if response.reward is not None]
    return min(rewards, default=None)


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started
