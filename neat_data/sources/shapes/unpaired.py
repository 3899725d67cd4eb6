"""Rows with one response and a verdict on it: TRL's unpaired form and labelled message lists."""

from __future__ import annotations

from typing import Any

from neat_data.record import Messages
from neat_data.sources.row import SourceAnswer, Understood, Unusable
from neat_data.sources.shapes import chat, sides
from neat_data.sources.shapes.values import verdict


def completion(row: dict[str, Any]) -> Understood:
    """`prompt`, `completion`, `label`."""
    dialogue = sides.prompted(row["prompt"], row["completion"], "completion")
    return _judged(dialogue, "completion", row, {"prompt", "completion", "label"})


def messages(row: dict[str, Any]) -> Understood:
    """`messages`, `label`: a whole dialogue, of whose last turn the label speaks."""
    return _judged(sides.whole(row["messages"], "messages"), "messages", row, {"messages", "label"})


def conversations(row: dict[str, Any]) -> Understood:
    """`conversations`, `label`: the same in ShareGPT's spelling."""
    return _judged(sides.whole(row["conversations"], "conversations"), "conversations", row, {"conversations", "label"})


def _judged(dialogue: Messages, column: str, row: dict[str, Any], used: set[str]) -> Understood:
    query, response = chat.split(dialogue, column)
    chat.check_query(query, column)
    if not response:
        raise Unusable("empty_response", f"`{column}`")
    meta = {key: value for key, value in row.items() if key not in used}
    return Understood(query, (SourceAnswer(response),), (0,), verdict(row["label"], "label"), meta)
