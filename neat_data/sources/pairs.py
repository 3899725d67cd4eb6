"""Rows with a chosen and a rejected side: HH, full-HH, TRL, ShareGPT pairs, message lists, binarized UltraFeedback.

Each side is made a whole dialogue and split by itself, and the two queries are compared: a row whose queries differ
is refused, never cut to fit.
"""

from __future__ import annotations

from typing import Any

from neat_data import dialogue
from neat_data.record import Message, Messages
from neat_data.sources import chat
from neat_data.sources.row import Answer, Understood, Unusable
from neat_data.sources.values import number

_TAGS = ("\n\nHuman:", "\n\nAssistant:")


def hh(row: dict[str, Any]) -> Understood:
    """`chosen` and `rejected` are whole dialogues: HH's text, or TRL's message lists (implicit prompt)."""
    return _pair(row, "chosen", "rejected")


def message_lists(row: dict[str, Any]) -> Understood:
    """`chosen_messages` and `rejected_messages` are whole dialogues."""
    return _pair(row, "chosen_messages", "rejected_messages")


def prompted(row: dict[str, Any]) -> Understood:
    """`prompt` beside `chosen` and `rejected`: full-HH, TRL with an explicit prompt, binarized UltraFeedback."""
    return _pair(row, "chosen", "rejected", "prompt")


def sharegpt(row: dict[str, Any]) -> Understood:
    """`conversations` beside `chosen` and `rejected`, each one message."""
    return _pair(row, "chosen", "rejected", "conversations")


def _pair(row: dict[str, Any], chosen: str, rejected: str, prompt: str | None = None) -> Understood:
    sides = [chat.split(_dialogue(row, column, prompt), column) for column in (chosen, rejected)]
    (query, best), (other_query, worst) = sides
    if query != other_query:
        raise Unusable("queries_differ", _difference(query, other_query))
    chat.check_query(query, chosen)
    for response, column in ((best, chosen), (worst, rejected)):
        if not response:
            raise Unusable("empty_response", f"`{column}`")
    if best == worst:
        raise Unusable("identical_responses")
    scores, score_columns = _scores(row)
    used = {chosen, rejected, *score_columns} | ({prompt} if prompt else set())
    meta = {key: value for key, value in row.items() if key not in used}
    if meta.get("messages") == row[chosen]:  # binarized UltraFeedback repeats the chosen dialogue
        del meta["messages"]
    answers = (Answer(best, scores[0]), Answer(worst, scores[1]))
    tied = scores[0] is not None and scores[0] == scores[1]
    return Understood(query, answers, () if tied else (0, 1), meta=meta)


def _dialogue(row: dict[str, Any], column: str, prompt: str | None) -> Messages:
    side = row[column]
    if prompt is None:
        return chat.messages(side, column) if isinstance(side, list) else _hh(side, column)
    if isinstance(row[prompt], str):
        return _after_text(row[prompt], side, column)
    query = chat.messages(row[prompt], prompt)
    turns = _turns(side, column)
    repeats_query = turns[: len(query)] == query
    return turns if repeats_query else query + _response_turns(turns, column)


def _hh(side: Any, column: str) -> Messages:
    text = chat.text(side, column)
    if not any(tag in text for tag in _TAGS):
        raise Unusable("no_response_turn", f"`{column}` has no turns (\\n\\nHuman:, \\n\\nAssistant:) and no prompt")
    return chat.hh(text)


def _after_text(prompt: str, side: Any, column: str) -> Messages:
    """The dialogue of a prompt that is text: HH's form, or one user turn."""
    if not isinstance(side, str):
        return _beside_text(prompt, _turns(side, column), column)
    if not any(tag in prompt for tag in _TAGS):
        return Message("user", prompt.strip()), Message("assistant", side.strip())
    opened = prompt.rstrip()
    if not opened.endswith("\n\nAssistant:"):
        opened += "\n\nAssistant:"
    # Joined and parsed as one text, so that further turns inside a response show as another query.
    return chat.hh(f"{opened} {side}")


def _beside_text(prompt: str, turns: Messages, column: str) -> Messages:
    """`turns` as they are where they hold the query, which must then contain the prompt; else behind it."""
    if turns and turns[0].role == "assistant":
        return (*prompt_turns(prompt), *_response_turns(turns, column))
    if prompt.strip() not in [turn.content for turn in turns if turn.role == "user"]:
        raise Unusable("queries_differ", f"`prompt` is no user turn of `{column}`")
    return turns


def prompt_turns(prompt: str) -> Messages:
    """A prompt that is text as messages: HH's turns without the open Assistant tag, or one user turn."""
    if not any(tag in prompt for tag in _TAGS):
        return (Message("user", prompt.strip()),)
    turns = dialogue.messages(dialogue.parse(prompt))
    if turns[-1] == Message("assistant", ""):
        turns = turns[:-1]
    return turns


def _turns(side: Any, column: str) -> Messages:
    if isinstance(side, str):
        return (Message("assistant", side.strip()),)
    if isinstance(side, dict):
        return (chat.message(side, column),)
    return chat.messages(side, column)


def _response_turns(turns: Messages, column: str) -> Messages:
    if turns and turns[0].role != "assistant":
        raise Unusable("queries_differ", f"`{column}` begins with another query than the prompt")
    return turns


def _difference(query: Messages, other: Messages) -> str:
    for number_, (left, right) in enumerate(zip(query, other, strict=False)):
        if left != right:
            return f"turn {number_} ({left.role} / {right.role})"
    return f"{len(query)} and {len(other)} turns"


_SCORE_COLUMNS = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))


def _scores(row: dict[str, Any]) -> tuple[tuple[float | None, float | None], tuple[str, ...]]:
    """The rewards of both sides and the columns they stood in."""
    for chosen, rejected in _SCORE_COLUMNS:
        if row.get(chosen) is not None and row.get(rejected) is not None:
            return (number(row[chosen], chosen), number(row[rejected], rejected)), (chosen, rejected)
    return (None, None), ()
