"""Which responses of a record a method learns from, where it is not all of them.

People's choice comes as rewards: of a pair that they compared, 1 for what they preferred and 0 for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from neat_data.errors import InputError
from neat_data.formats.preferences import ONE_PAIR, Skipped, scored
from neat_data.labels import best, chosen, orders, verdicts
from neat_data.record import Record, Response
from neat_train.config.ranking import Pairs, PolicyGradient
from neat_train.config.settings import REWARD, FitSettings, SFTTarget

Select = Callable[[Record], Record]


def selection(settings: FitSettings) -> Select | None:
    """What gives the record that a method is trained on, or raises Skipped; None where that is the whole record."""
    if settings.method == REWARD:
        return labelled
    if settings.method == "sft":
        return partial(_of_target, choice=settings.sft.target, seed=settings.seed)
    ranking = settings.loss.active_ranking
    if isinstance(ranking, PolicyGradient):
        return _sampled if settings.online and ranking.responses == "sampled" else None
    pairs = ranking.chosen_pairs
    return None if pairs == "all" else partial(_of_pair, choice=pairs)


def selected(record: Record, select: Select | None) -> Record | None:
    """The record that is trained on; None where it has nothing to learn from."""
    try:
        return record if select is None else select(record)
    except Skipped:
        return None


def require_some(ids: tuple[str, ...], records: Callable[[str], Record], settings: FitSettings) -> tuple[str, ...]:
    """The queries whose records have what the method learns from, in their order.

    Raises:
        InputError: none has.
    """
    select = selection(settings)
    if select is None or settings.online:
        return ids
    reasons: dict[str, int] = {}
    kept = []
    for query in ids:
        try:
            select(records(query))
            kept.append(query)
        except Skipped as skipped:
            reasons[skipped.reason] = reasons.get(skipped.reason, 0) + 1
    if not kept:
        why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        raise InputError(f"method {settings.method}: no record has what it learns from ({why}){_hint(settings)}")
    return tuple(kept)


def _hint(settings: FitSettings) -> str:
    if settings.method == REWARD:
        return "\nit learns from labels: pairs and lists that people or a judge put in order, or single verdicts"
    if settings.method == "sft":
        return f"\nsft.target is {settings.sft.target}; best takes the highest reward"
    chosen = settings.loss.active_ranking.chosen_pairs == "chosen"
    return "\nloss.ranking.pairs=best-worst goes by rewards, not by what people preferred" if chosen else ""


def labelled(record: Record) -> Record:
    """The record with the responses that some label speaks of, alone.

    Raises:
        Skipped: there is none.
    """
    spoken = {response.response_id for order in orders(record) for response in order}
    spoken |= {response.response_id for response, _ in verdicts(record)}
    if not spoken:
        raise Skipped("no_label")
    return replace(record, responses=tuple(each for each in record.responses if each.response_id in spoken))


def pair_of(record: Record, choice: Pairs) -> tuple[Response, Response]:
    """The response that is preferred, and the one that it is preferred to: one pair a record, as NEAT has one worst.

    `chosen` is the pair that people put in order (`labels.pair`); the others go by the rewards of all rounds.

    Raises:
        Skipped: people compared nothing; fewer than two responses, or all rewards equal.
    """
    pair = ONE_PAIR["labels" if choice == "chosen" else choice](record, None)[0]
    return pair.chosen, pair.rejected


def target_of(record: Record, choice: SFTTarget, seed: int = 0) -> Response:
    """The response to imitate: what people put first or accepted; the highest reward; of those that were sampled the
    highest reward, or, its control, any of them, drawn by the query's id.

    Raises:
        Skipped: there is none.
    """
    if choice == "best":
        return best(scored(record, at_least=1))
    if choice in ("best-of-n", "random-of-n"):
        drawn = scored(_sampled(record), at_least=1)
        return best(drawn) if choice == "best-of-n" else drawn[_drawn(record.query_id, seed) % len(drawn)]
    first = chosen(record)
    if first is None:
        raise Skipped("no_label")
    return first


def _of_pair(record: Record, choice: Pairs) -> Record:
    better, worse = pair_of(record, choice)
    if choice == "chosen":
        better, worse = replace(better, reward=1.0), replace(worse, reward=0.0)
    return replace(record, responses=(better, worse))


def _of_target(record: Record, choice: SFTTarget, seed: int) -> Record:
    target = target_of(record, choice, seed)
    return replace(record, responses=(replace(target, reward=target.reward or 0.0),))


def _sampled(record: Record) -> Record:
    """The record with the responses that a policy sampled."""
    drawn = tuple(response for response in record.responses if response.origin == "sampled")
    if not drawn:
        raise Skipped("nothing_sampled")
    return replace(record, responses=drawn)


def _drawn(query: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"random of n {seed} {query}".encode()).digest()[:6], "big")
