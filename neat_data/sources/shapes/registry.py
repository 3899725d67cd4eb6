"""The shapes of preference data, and of queries alone, that are known: which columns tell them, and who reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from neat_data.errors import InputError
from neat_data.sources.row import Understood, Unusable
from neat_data.sources.shapes import pairs, queries, ranked, unpaired
from neat_data.sources.shapes import ranked as pku


@dataclass(frozen=True, slots=True)
class Shape:
    """`needs` are the columns without which a row cannot be read; `read` raises `Unusable`."""

    name: str
    needs: tuple[str, ...]
    read: Callable[[dict[str, Any]], Understood]

    def understand(self, row: dict[str, Any]) -> Understood:
        """Read one row, refusing it where a needed column is missing."""
        missing = [column for column in self.needs if column not in row]
        if missing:
            raise Unusable("missing_column", f"`{missing[0]}`")
        return self.read(row)


# The first whose columns are all there is taken: those that need more come before those that need less.
SHAPES = (
    Shape("pku", ("prompt", "response_0", "response_1", "better_response_id"), pku.pku),
    Shape("ultrafeedback", ("instruction", "completions"), ranked.completions),
    Shape("messages", ("chosen_messages", "rejected_messages"), pairs.message_lists),
    Shape("prompted", ("prompt", "chosen", "rejected"), pairs.prompted),
    Shape("sharegpt", ("conversations", "chosen", "rejected"), pairs.sharegpt),
    Shape("hh", ("chosen", "rejected"), pairs.hh),
    Shape("responses", ("prompt", "responses"), ranked.responses),
    Shape("rrhf", ("query", "responses"), ranked.query_responses),
    Shape("pro", ("prefix", "suffix"), ranked.pro),
    Shape("instruction", ("instruction", "output"), ranked.instruction),
    Shape("unpaired", ("prompt", "completion", "label"), unpaired.completion),
    Shape("labelled-messages", ("messages", "label"), unpaired.messages),
    Shape("labelled-sharegpt", ("conversations", "label"), unpaired.conversations),
)
NAMES = tuple(shape.name for shape in SHAPES)

# Where queries are all that is wanted, these too: a file of preferences is still read as one.
QUERY_SHAPES = (
    *(shape for shape in SHAPES if shape.name != "instruction"),
    Shape("instruction", ("instruction",), queries.instruction),
    Shape("prompt", ("prompt",), queries.prompt),
    Shape("turns", ("turns",), queries.turns),
    Shape("question", ("question",), queries.question),
    Shape("query", ("query",), queries.query),
    Shape("goal", ("goal",), queries.goal),
    Shape("titled-goal", ("Goal",), queries.titled_goal),
    Shape("behavior", ("Behavior",), queries.behavior),
    Shape("query-messages", ("messages",), queries.messages),
)


def named(name: str, shapes: Sequence[Shape] = SHAPES) -> Shape:
    """The shape called `name`; InputError lists them."""
    for shape in shapes:
        if shape.name == name:
            return shape
    known = ", ".join(shape.name for shape in shapes)
    raise InputError(f"no such format; known are auto, {known}", field="format", value=name)


def recognise(columns: Iterable[str], where: str, shapes: Sequence[Shape] = SHAPES) -> Shape:
    """The first of `shapes` that has these columns; InputError lists the columns found and the shapes known."""
    found = list(columns)
    for shape in shapes:
        if set(shape.needs) <= set(found):
            return shape
    known = "; ".join(f"{shape.name} ({', '.join(shape.needs)})" for shape in shapes)
    shown = ", ".join(column[:40] for column in found[:20]) or "none"
    raise InputError(
        f"{where}: unknown shape. Columns found: {shown}.\nShapes known: {known}. Choose one with --format."
    )
