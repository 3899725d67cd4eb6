"""Trees of messages (OpenAssistant) -> one row for every prompt that has several answers."""

from __future__ import annotations

from collections.abc import Iterator

from neat_data.sources.row import Columns


def replies(row: Columns) -> Iterator[Columns]:
    """The rows `prompt`, `responses`, `ranks` of a tree, parents before children; the tree itself where it has none."""
    root = row.get("prompt")
    asked = list(_prompts(root)) if isinstance(root, dict) else []
    rest = {key: value for key, value in row.items() if key != "prompt"}
    rows = [{**rest, **_row(path, answers)} for path, answers in asked if len(answers) > 1]
    yield from rows or [row]


def _prompts(root: Columns) -> Iterator[tuple[list[Columns], list[Columns]]]:
    """Every user turn as the messages up to it, with its answers."""
    waiting: list[tuple[list[Columns], Columns]] = [([], root)]
    while waiting:
        before, node = waiting.pop()
        path = [*before, {"role": node.get("role"), "content": node.get("text")}]
        children = [
            reply for reply in node.get("replies") or () if isinstance(reply, dict) and not reply.get("deleted")
        ]
        waiting += [(path, child) for child in reversed(children)]
        if node.get("role") == "prompter":
            yield path, children


def _row(path: list[Columns], answers: list[Columns]) -> Columns:
    ranks = [answer.get("rank") for answer in answers]
    row = {"prompt": path, "responses": [answer.get("text") for answer in answers]}
    return {**row, "ranks": ranks} if all(rank is not None for rank in ranks) else row
