"""HH pairs from files of `chosen` and `rejected` dialogues: what is trained on, and why the other rows are not.

A row is a query with the response that people preferred and the one that they did not. Rows that cannot be used keep
their query's id and say why, so that every row of a file is accounted for.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neat_data.dialogue import messages, parse
from neat_data.errors import InputError
from neat_data.record import Message, Messages, query_id

KINDS = ("helpful", "harmless")


@dataclass(frozen=True, slots=True)
class Pair:
    """One source row. `unusable` says why it cannot be trained on or evaluated with, None where it can."""

    kind: str
    query_id: str
    query: Messages
    chosen: str
    rejected: str
    unusable: str | None = None


def read_kind(folder: Path, kind: str) -> list[Pair]:
    """Every row of the files in `folder` whose name begins with `kind`, in order of file name and line.

    Raises:
        InputError: there is no such file.
    """
    files = sorted(folder.glob(f"{kind}*.jsonl.gz"))
    if not files:
        raise InputError(f"no {kind}*.jsonl.gz in {folder}: name the folder that holds the HH rows")
    return [pair for file in files for pair in _read_file(file, kind)]


def _read_file(file: Path, kind: str) -> Iterator[Pair]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield to_pair(kind, row["chosen"], row["rejected"])


def to_pair(kind: str, chosen: str, rejected: str) -> Pair:
    """One row, each side parsed by itself; the id is that of the chosen side's query."""
    sides = [messages(parse(text)) for text in (chosen, rejected)]
    query, response = _cut(sides[0])
    other_query, other_response = _cut(sides[1])
    unusable = None
    if query != other_query:
        unusable = "queries_differ"
    elif not query or query[-1].role != "user" or not all(turn.content for turn in query):
        unusable = "query_not_user_turn"
    elif not response or not other_response:
        unusable = "empty_response"
    elif response == other_response:
        unusable = "identical_responses"
    return Pair(kind, query_id(query), query, response, other_response, unusable)


def _cut(turns: Messages) -> tuple[tuple[Message, ...], str]:
    """Query and response; the response is empty where the dialogue does not end in an assistant turn."""
    if turns and turns[-1].role == "assistant":
        return turns[:-1], turns[-1].content
    return turns, ""
