"""What a verb of the command line prints, and who follows it."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from neat_data.options.option import Option

if TYPE_CHECKING:
    from rich.console import Console

    from neat_data.options.groups import Dataset
    from neat_data.options.words import DropBy
    from neat_data.progress import Watcher
    from neat_data.store.dataset import PreferenceDataset


class Result(Protocol):
    """What a verb returns."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        ...


R = TypeVar("R", bound=Result)


@dataclass(frozen=True, kw_only=True)
class Output:
    """How much is printed, and in which form."""

    json: Annotated[bool, Option("One JSON object on stdout and nothing else there.")] = False
    quiet: Annotated[bool, Option("No progress and no summary.")] = False

    @contextmanager
    def watcher(self) -> "Iterator[Watcher]":
        """Who follows the verb: a bar on stderr, or nobody."""
        from rich.console import Console

        from neat_data.progress import Silent, TerminalWatcher

        if self.quiet:
            yield Silent()
            return
        console = Console(stderr=True, highlight=False)
        with TerminalWatcher(console, name=lambda field: f"--{field.replace('_', '-')}") as watch:
            yield watch

    def show(self, result: R, summarise: "Callable[[R, Console], None]") -> None:
        """Print what came of the verb as JSON, or as `summarise` does."""
        if self.json:
            print_json(result.to_dict())
        elif not self.quiet:
            summarise(result, stdout())


def open_dataset(path: "Dataset", drop_by: "DropBy | None" = None) -> "PreferenceDataset":
    """The dataset at `path`; says so where it is not finished."""
    from neat_data.arguments import opened

    dataset = opened(path, drop_by)
    if not dataset.complete:
        typer.echo(f"{path} is not finished: only the shards committed so far are read", err=True)
    return dataset


def print_json(value: dict[str, Any]) -> None:
    """One whole object, escaped where a terminal would obey it or its encoding has no place for a letter."""
    from neat_data.report.escape import in_json

    text = in_json(json.dumps(value, ensure_ascii=False, allow_nan=False))
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    sys.stdout.write(f"{text}\n")


def stdout() -> "Console":
    """Where summaries go."""
    from rich.console import Console

    return Console(highlight=False)
