"""A rank's share of a block: sampled part by part, then scored part by part, each committed at once; its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import pyarrow as pa

from neat_data.models.reward_model import RewardModel
from neat_data.progress import Watcher
from neat_data.record import Record
from neat_data.rounds.candidates import Candidate, Rules
from neat_data.rounds.finish import judged
from neat_data.rounds.sampling import Draws, drawings, sampled
from neat_data.store.documents import Settings
from neat_data.thought import thought_of
from neat_train.rounds.block_files import BlockFiles, Part, ScoredBlock
from neat_train.rounds.live_sampler import Live
from neat_train.rounds.served import Drawn, ServedCheck
from neat_train.training.placement import awake

PART = 512  # queries: what is sampled at once, and so what a kill may cost


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """What makes parts of blocks.

    Attributes:
        files: where they are committed.
        live: gives the policy as it is now.
        draws, rules: what is sampled, and what of it is used.
        gone: ids of responses that people dropped from the dataset, which may not come again.
        served: looks whether the samples are of the policy's weights.
    """

    files: BlockFiles
    live: Live
    reward: RewardModel
    draws: Draws
    rules: Rules
    gone: frozenset[str]
    watch: Watcher
    served: ServedCheck

    def make(
        self,
        parts: Sequence[tuple[Part, Sequence[str]]],
        identity: Settings,
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
            Figures: seconds of sampling and scoring, and the difference that `ServedCheck` measures.

        Raises:
            RunError: out of memory even with a small token budget, a full disk, a reward that is not finite, samples of
                other weights than the policy's.
        """
        scored = [self.files.has_scored(part, identity) for part, _ in parts]
        left = [part for part, done in zip(parts, scored, strict=True) if not done]
        seconds: dict[str, float] = {}
        with _timed("sampling", seconds):
            difference = self._sample(
                [share for share in left if self.files.samples(share[0], identity) is None], identity, numbers, record
            )
        with _timed("scoring", seconds):
            self._score(left, identity, record)
        measured = {} if difference is None else {"round/logp_difference": difference}
        return {**measured, **{f"round/{phase}_seconds": spent for phase, spent in seconds.items()}}

    def _sample(
        self,
        parts: Sequence[tuple[Part, Sequence[str]]],
        identity: Settings,
        numbers: tuple[int, int],
        record: Callable[[str], Record],
    ) -> float | None:
        """Returns the difference of the first part's log-probabilities; see `ServedCheck`."""
        if not parts:
            return None
        number, round = numbers
        differences: list[float | None] = []

        def look(drawn: Drawn) -> None:
            if not differences:
                differences.append(self.served.difference(identity["block"], drawn))

        self.watch.phase("sampling", self.draws.a_query * sum(len(queries) for _, queries in parts))
        with self.live.now(identity["policy"]) as sampler:
            for part, queries in parts:
                before = dict(sampler.usage)
                wanted = drawings([record(query) for query in queries], self.draws, number)
                candidates, budget = sampled(wanted, sampler, round, self.watch.advance, look)
                usage = {key: count - before.get(key, 0) for key, count in sampler.usage.items()}
                self.files.put_samples(part, candidates, {**identity, "usage": usage, "sampler_token_budget": budget})
        return differences[0]

    def _score(
        self, parts: Sequence[tuple[Part, Sequence[str]]], identity: Settings, record: Callable[[str], Record]
    ) -> None:
        if not parts:
            return
        self.watch.phase("scoring", sum(len(queries) for _, queries in parts))
        with awake(self.reward):
            for part, queries in parts:
                staged = self.files.samples(part, identity)
                assert staged is not None
                candidates, metadata = staged
                records = {query: record(query) for query in queries}
                gone = self.gone & {candidate.response.response_id for candidate in candidates}
                outcomes, budget = judged(candidates, records, self.rules, self.reward, self.watch.advance, gone)
                judgement = ScoredBlock(candidates, outcomes, [_worst(candidate, records) for candidate in candidates])
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


def figures(table: pa.Table, measured: dict[str, float]) -> dict[str, float]:
    """The figures of a block.

    `round/reward/PROMPT` is the mean reward of what was scored under a prompt. `round/responses` are those that joined,
    `round/dropped/REASON` those that did not; `round/finished` is the share that ended by themselves, `round/tokens`
    their tokens; `round/thoughts` the share that thinks, `round/unended` of these the share whose thought never ends,
    where any does; `round/below_worst` the share of the scored whose reward is below all that their record had.

    Args:
        table: as `block_files` stores it.
        measured: what `Maker.make` did, where the block was made here and now.
    """
    block = ScoredBlock.from_table(table)
    rewards: dict[str, list[float]] = {}
    dropped: dict[str, int] = {}
    below = []
    for candidate, outcome, worst in zip(block.candidates, block.outcomes, block.worst, strict=True):
        if outcome.reward is not None:
            rewards.setdefault(candidate.prompt, []).append(outcome.reward)
            below += [] if worst is None else [outcome.reward < worst]
        if outcome.dropped is not None:
            dropped[outcome.dropped] = dropped.get(outcome.dropped, 0) + 1
    given = [candidate.response for candidate in block.candidates if candidate.refused is None]
    thoughts = [thought for thought in (thought_of(response.text) for response in given) if thought is not None]
    return {
        "round/responses": float(len(block.candidates) - sum(dropped.values())),
        "round/tokens": float(sum(len(response.tokens or ()) for response in given)),
        **({"round/finished": fmean(bool(response.finished) for response in given)} if given else {}),
        **(
            {"round/thoughts": len(thoughts) / len(given), "round/unended": fmean(not t.ended for t in thoughts)}
            if thoughts
            else {}
        ),
        **({"round/below_worst": fmean(below)} if below else {}),
        **{f"round/reward/{prompt}": fmean(values) for prompt, values in sorted(rewards.items())},
        **{f"round/dropped/{reason}": float(count) for reason, count in sorted(dropped.items())},
        **measured,
    }
