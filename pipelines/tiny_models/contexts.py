"""Dialogues of several turns made from rows of one turn, for the dialogues that the reward models will meet."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from neat_data.record import Message, Messages
from pipelines.tiny_models.rows import KINDS, Pair


def shortened(query: Messages, rng: random.Random) -> Messages:
    """The query with its last turn cut to one to four words from a random place, as terse as a follow-up question."""
    words = query[-1].content.split()
    start = rng.randrange(len(words))
    return (*query[:-1], Message("user", " ".join(words[start : start + rng.randint(1, 4)])))


def in_context(pairs: Sequence[Pair], short_query: float, rng: random.Random) -> list[Pair]:
    """Every pair behind one to three dialogues of its kind, a share `short_query` of them with a shortened query."""
    result = []
    for kind in KINDS:
        members = [pair for pair in pairs if pair.kind == kind]
        for pair in members:
            others = rng.sample(members, min(len(members), rng.randint(1, 3)))
            context = [turn for other in others if other is not pair for turn in _dialogue(other, rng)]
            query = shortened(pair.query, rng) if rng.random() < short_query else pair.query
            result.append(replace(pair, query=(*context, *query)))
    return result


def _dialogue(pair: Pair, rng: random.Random) -> Messages:
    return (*pair.query, Message("assistant", rng.choice([pair.chosen, pair.rejected])))
