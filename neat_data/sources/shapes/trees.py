"""Trees of messages (OpenAssistant) -> one row for every prompt that has several answers.

A tree is one row, or stands flat in a table: a message a row, which names the message that it answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from neat_data.sources.row import Columns, RawRow, Unusable

_OF_A_MESSAGE = ("message_id", "parent_id", "text", "role", "rank", "deleted")


def grown(rows: Iterable[RawRow]) -> Iterator[RawRow]:
    """The trees of a flat table, in the order of their first messages; a message that hangs on none as it stands.

    The table is held in memory: nothing promises that a tree's rows stand together.
    """
    messages: dict[str, RawRow] = {}
    answers: dict[str | None, list[str]] = {}
    for row in rows:
        identity = (row.columns or {}).get("message_id")
        if not isinstance(identity, str) or identity in messages:
            problem = row.problem or Unusable("bad_message", "`message_id` is no text, or comes again")
            yield RawRow(row.source, problem=problem)
            continue
        messages[identity] = row
        answers.setdefault(_parent(row), []).append(identity)
    left = set(messages)
    for root in answers.get(None, ()):
        whole = {**_beside(messages[root]), "prompt": _node(root, messages, answers, left)}
        try:
            yield RawRow(json.dumps(whole, ensure_ascii=False), columns=whole)
        except RecursionError:
            yield RawRow(messages[root].source, problem=Unusable("bad_message", "a thread of this tree is too long"))
    for identity in [identity for identity in messages if identity in left]:
        detail = f"`parent_id` {_parent(messages[identity])!r} is no message of this file's trees"
        yield RawRow(messages[identity].source, problem=Unusable("no_parent", detail))


def _parent(row: RawRow) -> str | None:
    parent = (row.columns or {}).get("parent_id")
    return str(parent) if parent is not None and parent == parent and parent != "" else None


def _beside(row: RawRow) -> Columns:
    """What the table says of a tree's first message, which is said of the tree."""
    return {name: value for name, value in (row.columns or {}).items() if name not in _OF_A_MESSAGE}


def _node(root: str, messages: dict[str, RawRow], answers: dict[str | None, list[str]], left: set[str]) -> Columns:
    """A message with its replies, each as it would stand in a tree; what is reached leaves `left`."""
    top = _message(messages[root])
    waiting = [(root, top)]
    left.discard(root)
    while waiting:
        identity, node = waiting.pop()
        for answer in answers.get(identity, ()):
            reply = _message(messages[answer])
            node["replies"].append(reply)
            left.discard(answer)
            waiting.append((answer, reply))
    return top


def _message(row: RawRow) -> Columns:
    columns = row.columns or {}
    rank = columns.get("rank")
    deleted = str(columns.get("deleted")).casefold() in ("true", "1")
    return {
        "role": columns.get("role"),
        "text": columns.get("text"),
        "rank": None if rank == "" or rank != rank else rank,
        "deleted": deleted,
        "replies": [],
    }


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
