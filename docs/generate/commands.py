"""A command line as a page: every verb of a Typer app with its usage, arguments and options, as `--help` tells them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import typer


def page(name: str, app: typer.Typer) -> str:
    """Markdown of the reference of one command.

    Args:
        name: as it is typed, say `neat-data`.
        app: what parses it.
    """
    group: Any = typer.main.get_command(app)
    return "\n".join([f"# {name}", "", group.help, "", *_verbs(name, group.commands)])


def _verbs(name: str, verbs: dict[str, Any]) -> Iterator[str]:
    for verb, command in sorted(verbs.items()):
        context = typer.Context(command, info_name=f"{name} {verb}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        yield from (f"## {name} {verb}", "", inspect.cleandoc(command.help), "", "```text", usage, "```", "")
        records = (parameter.get_help_record(context) for parameter in command.params)
        yield from _table(record for record in records if record)


def _table(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from ("| name | value | what it is |", "| --- | --- | --- |")
    for names, help in records:
        name, _, value = names.partition(" <")
        words = " ".join(code(word) for word in value.removesuffix(">").split("|") if word)
        yield f"| {code(name)} | {words} | {cell(_with_default(help))} |"
    yield ""


def _with_default(help: str) -> str:
    """What typer writes behind the help in brackets, set apart.

    >>> _with_default("How many.  [default: 1; x>=1]")
    'How many. *default: 1; x>=1*'
    """
    text, bracket, rest = help.rpartition("  [")
    return f"{text} *{rest.removesuffix(']')}*" if bracket else help


def code(text: str) -> str:
    """Text as code in a cell of a table."""
    return f"`{cell(text)}`"


def cell(text: str) -> str:
    """Text in one line, without what would end a cell or begin a tag."""
    return " ".join(text.split()).replace("|", r"\|")
