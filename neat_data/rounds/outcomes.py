"""Candidates and their rewards -> the rows of a later round's shard, and what became of every candidate.

`Tally` counts what became of a prompt's candidates in sums that add up over shards.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

import polars as pl

from neat_data.analysis.measures import Z95, wilson
from neat_data.models.reward_model import Scored, Task
from neat_data.record import Record, Response
from neat_data.rounds.candidates import KEEP_COLUMNS, Candidate, Rules, described, ends, keep_by
from neat_data.store.documents import MeanReward, Metadata, PromptFigures, ShareBelow, ThoughtFigures
from neat_data.thought import thought_of


@dataclass
class Tally:
    """Counts of one prompt. Rewards are those of all scored candidates, whether or not `--keep` kept them.

    Attributes:
        asked, scored, kept: candidates.
        dropped: candidates that did not join, by reason.
        unfinished, cut, queries_cut, refusals: of those that the sampler gave.
        tokens: of the candidates, end-of-turn included.
        reward, squares: sums over the scored.
        compared: scored ones whose query people put a pair of in order; `chosen`, `rejected`: sums of its rewards.
        below_rejected: of the compared, those with a lower reward than the rejected response.
        thoughts: of those that the sampler gave, responses with a thought; `unended`: whose thought never ends;
            `thought_characters`: sum of its lengths; `thought_scored`, `thought_reward`: of the scored, with a thought.
    """

    polarity: str | None = None
    asked: int = 0
    scored: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    cut: int = 0
    queries_cut: int = 0
    refusals: int = 0
    tokens: int = 0
    reward: float = 0.0
    squares: float = 0.0
    compared: int = 0
    chosen: float = 0.0
    rejected: float = 0.0
    below_rejected: int = 0
    thoughts: int = 0
    unended: int = 0
    thought_characters: int = 0
    thought_scored: int = 0
    thought_reward: float = 0.0

    def add(self, other: Tally) -> None:
        """Count `other`'s candidates as well."""
        for name in (f.name for f in fields(self) if f.name != "polarity"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_dict(self) -> Metadata:
        """JSON-able; the inverse of `from_dict`. Nothing is said of thoughts where none occurs."""
        unsaid = () if self.thoughts else _OF_THOUGHTS
        content = {name: value for name, value in asdict(self).items() if name not in unsaid}
        return {**content, "dropped": dict(sorted(self.dropped.items()))}

    @classmethod
    def from_dict(cls, content: Metadata) -> Tally:
        return cls(**{**content, "dropped": Counter(content["dropped"])})

    def figures(self) -> PromptFigures:
        """What a user reads: counts as they are, shares and means with 95 % intervals, None where nothing was counted.

        The interval of the mean is the normal one; that of the share is Wilson's. Several samples of one query count as
        independent.
        """
        given = self.asked - sum(n for reason, n in self.dropped.items() if reason in _NOT_GIVEN)
        return {
            "polarity": self.polarity,
            "asked": self.asked,
            "scored": self.scored,
            "kept": self.kept,
            "tokens": self.tokens,
            "dropped": dict(sorted(self.dropped.items())),
            "unfinished": self.unfinished,
            "cut": self.cut,
            "queries_cut": self.queries_cut,
            "refusals": self.refusals,
            "compared": self.compared,
            "refusal_share": self.refusals / given if given else None,
            **self._thoughts(given),
            **self._mean(),
            "chosen": self.chosen / self.compared if self.compared else None,
            "rejected": self.rejected / self.compared if self.compared else None,
            **self._below(),
        }

    def _thoughts(self, given: int) -> ThoughtFigures:
        """Shares and means of responses with a thought; {} where there is none."""
        if not self.thoughts:
            return {}
        without = self.scored - self.thought_scored
        return {
            "thought_share": self.thoughts / given if given else None,
            "unended_share": self.unended / self.thoughts,
            "thought_characters": self.thought_characters / self.thoughts,
            "reward_with_thought": self.thought_reward / self.thought_scored if self.thought_scored else None,
            "reward_without_thought": (self.reward - self.thought_reward) / without if without else None,
        }

    def _mean(self) -> MeanReward:
        if not self.scored:
            return {"reward": None, "reward_low": None, "reward_high": None}
        mean = self.reward / self.scored
        variance = max(0.0, self.squares - self.scored * mean * mean) / max(self.scored - 1, 1)
        half = Z95 * math.sqrt(variance / self.scored)
        return {"reward": mean, "reward_low": mean - half, "reward_high": mean + half}

    def _below(self) -> ShareBelow:
        if not self.compared:
            return {"below_rejected": None, "below_low": None, "below_high": None}
        share = self.below_rejected / self.compared
        low, high = wilson(share, self.compared)
        return {"below_rejected": share, "below_low": low, "below_high": high}


_OF_THOUGHTS = ("thoughts", "unended", "thought_characters", "thought_scored", "thought_reward")
_NOT_GIVEN = ("query_too_long", "template_refused", "server_refused", "empty")


def total(tallies: Iterable[Mapping[str, Metadata]]) -> dict[str, Tally]:
    """The tallies of several shards as one, by prompt, in the order of their first appearance."""
    sums: dict[str, Tally] = {}
    for shard in tallies:
        for prompt, content in shard.items():
            sums.setdefault(prompt, Tally(content["polarity"])).add(Tally.from_dict(content))
    return sums


@dataclass(frozen=True)
class Waiting:
    """Candidates of one query that are worth scoring, as positions in the list of all."""

    record: Record
    indices: tuple[int, ...]


def waiting(
    candidates: Sequence[Candidate], reasons: Sequence[str | None], records: Mapping[str, Record]
) -> list[Waiting]:
    """The candidates that no reason speaks against, by query, in order of their first appearance."""
    by_query: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        if reasons[index] is None:
            by_query.setdefault(candidate.query_id, []).append(index)
    return [Waiting(records[query], tuple(indices)) for query, indices in by_query.items()]


def tasks(groups: Sequence[Waiting], candidates: Sequence[Candidate]) -> list[Task]:
    """What the reward model is asked: the plain query, never the prompt that a response was sampled under."""
    return [Task(group.record.messages, tuple(candidates[i].response.text for i in group.indices)) for group in groups]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a candidate.

    Attributes:
        reward: None where it was not scored.
        dropped: the reason why it does not join, None where it does.
    """

    reward: float | None
    dropped: str | None


def outcomes(
    candidates: Sequence[Candidate],
    reasons: Sequence[str | None],
    groups: Sequence[Waiting],
    scored: Sequence[Scored],
    rules: Rules,
) -> list[Outcome]:
    """What became of each candidate.

    Args:
        reasons: what `sift` said of each.
        groups, scored: what was scored, and the answers.
    """
    results = [Outcome(None, reason) for reason in reasons]
    rows = {}
    for group, answer in zip(groups, scored, strict=True):
        for index, reward, refused in zip(group.indices, answer.rewards, answer.refused, strict=True):
            results[index] = Outcome(reward, None if reward is not None else refused or "no_reward")
            if reward is not None:
                rows[index] = described(candidates[index], reward, group.record, rules)
    places = sorted(rows)
    kept = keep_by(rules.keep, pl.DataFrame([rows[i] for i in places], schema=KEEP_COLUMNS))
    for index, keep in zip(places, kept, strict=True):
        if not keep:
            results[index] = replace(results[index], dropped="not_kept")
    return results


def joined(candidates: Sequence[Candidate], outcomes: Sequence[Outcome], queries: Sequence[str]) -> list[Record]:
    """What joins the dataset: one row for each of `queries` that got a response, in their order, ranked."""
    by_query: dict[str, list[Response]] = {query: [] for query in queries}
    for candidate, outcome in zip(candidates, outcomes, strict=True):
        if outcome.dropped is None:
            by_query[candidate.query_id].append(replace(candidate.response, reward=outcome.reward))
    return [Record(query, (), tuple(responses)).ranked() for query, responses in by_query.items() if responses]


def tallies(
    candidates: Sequence[Candidate], outcomes: Sequence[Outcome], records: Mapping[str, Record], rules: Rules
) -> dict[str, Tally]:
    """The tally of each prompt.

    Args:
        records: of every query that a candidate was scored for.
    """
    made: dict[str, Tally] = {}
    for candidate, outcome in zip(candidates, outcomes, strict=True):
        tally = _one(candidate, rules, outcome.dropped)
        if outcome.reward is not None:
            _add_reward(tally, outcome.reward, ends(records[candidate.query_id]))
            if tally.thoughts:
                tally.thought_scored, tally.thought_reward = 1, outcome.reward
        made.setdefault(candidate.prompt, Tally(candidate.response.polarity)).add(tally)
    return made


def _one(candidate: Candidate, rules: Rules, reason: str | None) -> Tally:
    response = candidate.response
    tally = Tally(response.polarity, asked=1, kept=reason is None, queries_cut=candidate.turns_cut > 0)
    tally.cut, tally.tokens = candidate.cut, len(response.tokens or ())
    tally.unfinished = response.finished is False and candidate.refused is None
    tally.refusals = rules.refuses(response.text)
    if (thought := thought_of(response.text)) is not None:
        tally.thoughts, tally.unended, tally.thought_characters = 1, not thought.ended, len(thought.text)
    tally.dropped.update([reason] if reason else [])
    return tally


def _add_reward(tally: Tally, reward: float, pair: tuple[float | None, float | None]) -> None:
    tally.scored, tally.reward, tally.squares = 1, reward, reward * reward
    chosen, rejected = pair
    if chosen is not None and rejected is not None:
        tally.compared, tally.chosen, tally.rejected = 1, chosen, rejected
        tally.below_rejected = reward < rejected
