"""Files that hold queries alone, as benchmarks publish them -> the query; every other column goes to `meta`.

XSTest and Arena-Hard 2 (`prompt`), AlpacaEval (`instruction`), MT-bench and Arena-Hard (`turns`), HarmBench
(`Behavior`), AdvBench and JailbreakBench (`goal`), and message lists that end in a user turn. A row's answers are ().
"""

from __future__ import annotations

from typing import Any

from neat_data.record import Message, Messages
from neat_data.sources.row import Understood, Unusable
from neat_data.sources.shapes import chat, ranked, sides


def prompt(row: dict[str, Any]) -> Understood:
    """`prompt`: plain text, HH's text, messages, or the user's turns as texts (MT-bench on the hub)."""
    given = row["prompt"]
    if isinstance(given, list) and given and isinstance(given[0], str):
        return _first_turn(row, "prompt")
    return _alone(sides.query(given), "prompt", row, {"prompt"})


def question(row: dict[str, Any]) -> Understood:
    """`question`: text."""
    return _text(row, "question")


def query(row: dict[str, Any]) -> Understood:
    """`query`: plain text, HH's text or messages."""
    return _alone(sides.query(row["query"]), "query", row, {"query"})


def goal(row: dict[str, Any]) -> Understood:
    """`goal`: text (AdvBench)."""
    return _text(row, "goal")


def titled_goal(row: dict[str, Any]) -> Understood:
    """`Goal`: text (JailbreakBench, whose `Behavior` is a label)."""
    return _text(row, "Goal")


def behavior(row: dict[str, Any]) -> Understood:
    """`Behavior`, behind its `ContextString` where it has one: joined as HarmBench joins them."""
    asked, context = (_optional(row, column) for column in ("Behavior", "ContextString"))
    whole = f"{context}\n\n---\n\n{asked}" if context and asked else asked
    return _alone((Message("user", whole),), "Behavior", row, {"Behavior"})


def turns(row: dict[str, Any]) -> Understood:
    """`turns`: the user's, as texts or with a `content` (MT-bench, Arena-Hard)."""
    return _first_turn(row, "turns")


def messages(row: dict[str, Any]) -> Understood:
    """`messages`: a dialogue that ends in a user turn."""
    return _alone(chat.messages(row["messages"], "messages"), "messages", row, {"messages"})


def instruction(row: dict[str, Any]) -> Understood:
    """`instruction` and `input`; an `output` that is text is somebody's answer (AlpacaEval), a list is ranked."""
    if isinstance(row.get("output"), list):
        return ranked.instruction(row)
    used = {"instruction", "input", "history", "system"}
    return _alone(ranked.instruction_query(row), "instruction", row, used)


def _text(row: dict[str, Any], column: str) -> Understood:
    return _alone((Message("user", _optional(row, column)),), column, row, {column})


def _first_turn(row: dict[str, Any], column: str) -> Understood:
    """The first of the user's turns: what follows it depends on the answer, and stays in `meta`."""
    given = row[column]
    if not isinstance(given, list) or not given:
        raise Unusable("empty_query", f"`{column}` holds {chat.kind(given)}")
    first = given[0].get("content") if isinstance(given[0], dict) else given[0]
    asked = Message("user", chat.text(first, f"{column}[0]").strip())
    return _alone((asked,), column, row, {column} if len(given) == 1 else set())


def _optional(row: dict[str, Any], column: str) -> str:
    """The column's text, stripped; blank where the column is null or missing."""
    return "" if row.get(column) is None else chat.text(row[column], column).strip()


def _alone(asked: Messages, column: str, row: dict[str, Any], used: set[str]) -> Understood:
    chat.check_query(asked, column)
    return Understood(asked, (), meta={key: value for key, value in row.items() if key not in used})
