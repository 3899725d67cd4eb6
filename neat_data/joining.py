"""Candidates and their rewards -> the rows of a later round's shard, and what became of every candidate."""

from __future__ import annotations

from collections.abc import Sequence
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
    candidates: Sequence[Candidate], reasons: Sequence[str | None], records: dict[str, Record]
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


def join(
    candidates: Sequence[Candidate],
    reasons: Sequence[str | None],
    groups: Sequence[Waiting],
    scored: Sequence[Scored],
    rules: Rules,
) -> tuple[list[Record], dict[str, Tally]]:
    """The rows that join the dataset, and the tally of each prompt.

    Args:
        reasons: what `sift` said of each candidate.
        groups, scored: what was scored, and the answers.

    Returns:
        One row a query that got a response, with the new responses only, ranked.
    """
    rewards: dict[int, float] = {}
    dropped = {index: reason for index, reason in enumerate(reasons) if reason is not None}
    record_at: dict[int, Record] = {}
    for group, answer in zip(groups, scored, strict=True):
        for index, reward, refused in zip(group.at, answer.rewards, answer.refused, strict=True):
            record_at[index] = group.record
            if reward is None:
                dropped[index] = refused or "no_reward"
            else:
                rewards[index] = reward
    rows = [described(candidates[i], rewards[i], record_at[i], rules) for i in sorted(rewards)]
    kept = keep_by(rules.keep, pl.DataFrame(rows, schema=KEEP_COLUMNS))
    dropped |= {index: "not_kept" for index, keep in zip(sorted(rewards), kept, strict=True) if not keep}
    tallies = _tallies(candidates, rules, rewards, dropped, record_at)
    return _rows(groups, candidates, rewards, dropped), tallies


def _rows(
    groups: Sequence[Waiting], candidates: Sequence[Candidate], rewards: dict[int, float], dropped: dict[int, str]
) -> list[Record]:
    rows = []
    for group in groups:
        responses: tuple[Response, ...] = tuple(
            replace(candidates[i].response, reward=rewards[i]) for i in group.at if i not in dropped
        )
        if responses:
            rows.append(Record(group.record.query_id, (), responses).ranked())
    return rows


def _tallies(
    candidates: Sequence[Candidate],
    rules: Rules,
    rewards: dict[int, float],
    dropped: dict[int, str],
    record_at: dict[int, Record],
) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for index, candidate in enumerate(candidates):
        one = _one(candidate, rules, dropped.get(index))
        if index in rewards:
            _add_reward(one, rewards[index], ends(record_at[index]))
        found.setdefault(candidate.prompt, Tally(candidate.response.polarity)).add(one)
    return found


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
