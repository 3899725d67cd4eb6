"""Stats and records in a terminal. Dataset text goes in as plain text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from neat_data.record import Label, Record, Response
from neat_data.report.tables import MISSING, Table, number, tables
from neat_data.report.visible import one_line, visible

if TYPE_CHECKING:
    from neat_data.stats import Stats

_COLOURS = {"user": "cyan", "assistant": "green", "system": "magenta"}


def print_stats(stats: Stats, console: Console) -> None:
    """Every table of the stats, one below the other; 80 columns are enough."""
    print_tables(tables(stats), console)


def print_tables(found: Iterable[Table], console: Console) -> None:
    """Tables with their remarks, one below the other."""
    for table in found:
        console.print(_grid(table))
        if table.note:
            console.print(Padding(Text(table.note, style="dim"), (0, 1)))
        console.print()


def _grid(table: Table) -> Grid:
    plain = not any(table.columns)
    grid = Grid(
        box=box.SIMPLE_HEAD,
        title=Text(table.title, style="bold"),
        title_justify="left",
        show_header=not plain,
        header_style="dim",
        padding=(0, 1),
        show_edge=False,
    )
    for index, column in enumerate(table.columns):
        grid.add_column(Text(column), justify="right" if index and not plain else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def print_records(records: Iterable[Record], console: Console) -> None:
    """Records as dialogues, each response with its rank, reward, origin and what people said of it."""
    for record in records:
        console.rule(Text(f"query {record.query_id}"), style="dim", align="left")
        console.print(_dialogue(record))
        console.print()


def _dialogue(record: Record) -> Grid:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for message in record.messages:
        colour = _COLOURS.get(message.role, "white")
        grid.add_row(Text(one_line(message.role), style=f"bold {colour}"), Text(visible(message.content)))
    grid.add_row("", "")
    for rank, response in enumerate(record.responses, start=1):
        grid.add_row(Text(f"#{rank}", style="bold"), _headline(response, record.labels))
        grid.add_row("", Text(visible(response.text)))
    grid.add_row("", "")
    for label in record.labels:
        grid.add_row(Text("gap", style="bold"), Text(_judgement(record, label)))
    return grid


def _headline(response: Response, labels: Iterable[Label]) -> Text:
    line = Text(f"reward {number(response.reward)}", style="bold")
    origin = " ".join(part for part in (response.polarity, response.origin) if part)
    line.append(f"  {one_line(origin)}", style="dim")
    if response.round:
        line.append(f", round {response.round}", style="dim")
    for mark in dict.fromkeys(marks(response.response_id, labels)):
        line.append(f"  {mark}", style="red" if mark in ("rejected", "refused") else "green")
    return line


def marks(response: str, labels: Iterable[Label]) -> Iterator[str]:
    """What each label says of the response with this id: chosen, rejected, accepted, refused, or a place."""
    for label in labels:
        if response not in label.order:
            continue
        place, of = label.order.index(response), len(label.order)
        if of == 1:
            if label.verdict is not None:
                yield "accepted" if label.verdict else "refused"
        elif of == 2:
            yield ("chosen", "rejected")[place]
        else:
            yield f"place {place + 1} of {of}"


def signed_gap(record: Record, label: Label) -> float | None:
    """Reward of the label's first response minus reward of its last; None where there is no pair or no reward."""
    rewards = {response.response_id: response.reward for response in record.responses}
    if len(label.order) < 2:
        return None
    best, worst = rewards.get(label.order[0]), rewards.get(label.order[-1])
    return None if best is None or worst is None else best - worst


def _judgement(record: Record, label: Label) -> str:
    gap = signed_gap(record, label)
    split = " ".join(part for part in (label.subset, label.split) if part)
    where = one_line(f"{label.name} row {label.row}" + (f" ({split})" if split else ""))
    return f"{MISSING if gap is None else format(gap, '+.2f')}  {where}"
