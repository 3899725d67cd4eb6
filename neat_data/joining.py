"""Candidates and their rewards -> the rows of a later round's shard, and what became of every candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from neat_data.candidates import KEEP_COLUMNS, Candidate, Rules, described, ends, keep_by
from neat_data.models.reward import Scored, Task
from neat_data.record import Record, Response
from neat_data.tally import Tally


@dataclass(frozen=True)
class Waiting:
    """Candidates of one query that are worth scoring, as positions in the list of all."""

    record: Record
    at: tuple[int, ...]


def waiting(
    candidates: Sequence[Candidate], reasons: Sequence[str | None], records: Mapping[str, Record]
) -> list[Waiting]:
    """The candidates that no reason speaks against, by query, in order of their first appearance."""
    by_query: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        if reasons[index] is None:
            by_query.setdefault(candidate.query_id, []).append(index)
    return [Waiting(records[query], tuple(at)) for query, at in by_query.items()]


def tasks(groups: Sequence[Waiting], candidates: Sequence[Candidate]) -> list[Task]:
    """What the reward model is asked: the plain query, never the prompt that a response was sampled under."""
    return [Task(group.record.messages, tuple(candidates[i].response.text for i in group.at)) for group in groups]


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
    found = [Outcome(None, reason) for reason in reasons]
    rows = {}
    for group, answer in zip(groups, scored, strict=True):
        for index, reward, refused in zip(group.at, answer.rewards, answer.refused, strict=True):
            found[index] = Outcome(reward, None if reward is not None else refused or "no_reward")
            if reward is not None:
                rows[index] = described(candidates[index], reward, group.record, rules)
    at = sorted(rows)
    kept = keep_by(rules.keep, pl.DataFrame([rows[i] for i in at], schema=KEEP_COLUMNS))
    for index, keep in zip(at, kept, strict=True):
        if not keep:
            found[index] = replace(found[index], dropped="not_kept")
    return found


def joined(candidates: Sequence[Candidate], found: Sequence[Outcome], queries: Sequence[str]) -> list[Record]:
    """What joins the dataset: one row for each of `queries` that got a response, in their order, ranked."""
    by_query: dict[str, list[Response]] = {query: [] for query in queries}
    for candidate, outcome in zip(candidates, found, strict=True):
        if outcome.dropped is None:
            by_query[candidate.query_id].append(replace(candidate.response, reward=outcome.reward))
    return [Record(query, (), tuple(responses)).ranked() for query, responses in by_query.items() if responses]


def tallies(
    candidates: Sequence[Candidate], found: Sequence[Outcome], records: Mapping[str, Record], rules: Rules
) -> dict[str, Tally]:
    """The tally of each prompt.

    Args:
        records: of every query that a candidate was scored for.
    """
    made: dict[str, Tally] = {}
    for candidate, outcome in zip(candidates, found, strict=True):
        one = _one(candidate, rules, outcome.dropped)
        if outcome.reward is not None:
            _add_reward(one, outcome.reward, ends(records[candidate.query_id]))
        made.setdefault(candidate.prompt, Tally(candidate.response.polarity)).add(one)
    return made


def _one(candidate: Candidate, rules: Rules, reason: str | None) -> Tally:
    response = candidate.response
    tally = Tally(response.polarity, asked=1, kept=reason is None, queries_cut=candidate.turns_cut > 0)
    tally.cut, tally.tokens = candidate.cut, len(response.tokens or ())
    tally.unfinished = response.finished is False and candidate.refused is None
    tally.refusals = rules.refuses(response.text)
    tally.dropped.update([reason] if reason else [])
    return tally


def _add_reward(tally: Tally, reward: float, pair: tuple[float | None, float | None]) -> None:
    tally.scored, tally.reward, tally.squares = 1, reward, reward * reward
    chosen, rejected = pair
    if chosen is not None and rejected is not None:
        tally.compared, tally.chosen, tally.rejected = 1, chosen, rejected
        tally.below_rejected = reward < rejected
