"""Rows with two responses and a word, a number or a score that says which of them is better.

Each reader of the table is `two(parts, says)`, where `says` reads the verdict: see `verdicts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neat_data.record import Messages
from neat_data.sources.row import Columns, SourceAnswer, Understood, Unusable
from neat_data.sources.shapes import asked, chat, literals, verdicts
from neat_data.sources.shapes.columns import Parts
from neat_data.sources.shapes.values import number

_WORDS = ("response_a", "response_b")
Says = Callable[[Any, str], tuple[int, ...]]


def named(parts: Parts) -> Understood:
    """`better` names the better answer: see `verdicts.better`."""
    first, second = (parts.place(word).rpartition(".")[2] for word in _WORDS)
    return two(parts, lambda value, place: verdicts.better(value, place, (first, second)))


def annotated(parts: Parts) -> Understood:
    """`better` is a list of annotations, each with results of the kind `pairwise` (Label Studio)."""
    annotations = literals.parsed(parts.get("better"))
    done = (
        [item for item in annotations if isinstance(item, dict) and not item.get("was_cancelled")]
        if isinstance(annotations, list)
        else []
    )
    results = [result for item in done for result in item.get("result") or () if isinstance(result, dict)]
    values = [result.get("value") for result in results if result.get("type") == "pairwise"]
    votes = [value.get("selected") for value in values if isinstance(value, dict)]
    return two(parts, lambda _, place: verdicts.better(votes, place))


def indexed(parts: Parts) -> Understood:
    """`better` is the position of the better answer, 0 or 1."""
    return two(parts, verdicts.by_index)


def first_is_one(parts: Parts) -> Understood:
    """`better` is 1 for the first answer and 0 for the second (SHP)."""
    return two(parts, verdicts.first_is_one)


def strength(parts: Parts) -> Understood:
    """`better` is below zero for the first answer and above zero for the second (HelpSteer)."""
    return two(parts, verdicts.from_strength)


def scored(parts: Parts) -> Understood:
    """The scores alone say which is better (WebGPT)."""
    query, texts = _texts(parts)
    answers = _answers(parts, texts)
    return Understood(query, answers, verdicts.order([answer.reward for answer in answers]), meta=parts.rest)


def two(parts: Parts, says: Says) -> Understood:
    """`prompt`, `response_a`, `response_b` and `better`, which `says` turns into an order."""
    query, texts = _texts(parts)
    order = says(parts.get("better"), parts.place("better"))
    return Understood(query, _answers(parts, texts), order, meta=parts.rest)


def arena(parts: Parts) -> Understood:
    """Two whole conversations as lists of the user's and each model's texts, and a column for each outcome (Arena)."""
    words = ("winner_a", "winner_b", "tie")
    turns = _texts_of(parts, "prompt")
    values = {word: _interleaved(turns, _texts_of(parts, word), parts.place(word)) for word in _WORDS}
    query, texts = _texts(Parts(values, parts.places, parts.rest))
    order = verdicts.one_hot([parts.get(word) for word in words], [parts.place(word) for word in words])
    return Understood(query, _answers(parts, texts), order, meta=parts.rest)


def _texts_of(parts: Parts, word: str) -> list[Any]:
    value = literals.parsed(parts.get(word))
    return value if isinstance(value, list) else [value]


def _interleaved(questions: list[Any], answers: list[Any], place: str) -> list[Columns]:
    if len(questions) != len(answers):
        raise Unusable("queries_differ", f"`{place}` has {len(answers)} turns, the prompt {len(questions)}")
    pairs = zip(questions, answers, strict=True)
    return [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _texts(parts: Parts) -> tuple[Messages, list[str]]:
    """The query and both responses, checked."""
    split = [chat.split(asked.dialogue(parts, word), parts.place(word)) for word in _WORDS]
    (query, first), (other, second) = split
    if query != other:
        raise Unusable("queries_differ", f"`{parts.place('response_a')}` and `{parts.place('response_b')}`")
    chat.check_query(query, parts.place("prompt"))
    for word, text in zip(_WORDS, (first, second), strict=True):
        if not text:
            raise Unusable("empty_response", f"`{parts.place(word)}`")
    if first == second:
        raise Unusable("identical_responses")
    return query, [first, second]


def _answers(parts: Parts, texts: list[str]) -> tuple[SourceAnswer, ...]:
    """The responses with their scores, where both have one."""
    words = ("score_a", "score_b")
    if not all(parts.given(word) for word in words):
        return tuple(SourceAnswer(text) for text in texts)
    scores = [number(parts.get(word), parts.place(word)) for word in words]
    return tuple(SourceAnswer(text, score) for text, score in zip(texts, scores, strict=True))
