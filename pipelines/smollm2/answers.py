"""`python -m pipelines.smollm2.answers DATASET`: what was sampled for some queries, one prompt beside the other."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

from rich.console import Group
from rich.table import Table
from rich.text import Text

from neat_data.cli.output import stdout
from neat_data.errors import InputError
from neat_data.record import Record, Response
from neat_data.report.escape import visible
from neat_data.store.dataset import PreferenceDataset
from pipelines.processes import exit_status_of

ORDER = ("positive", "plain", "negative")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.smollm2.answers", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--queries", type=int, default=3, help="the first so many, in order of their ids")
    options = parser.parse_args(arguments)
    return exit_status_of(lambda: _show(options.dataset, options.queries))


def _show(dataset: str, queries: int) -> None:
    asked = [record for record in PreferenceDataset.open(dataset) if _by_prompt(record).keys() >= set(ORDER)]
    if not asked:
        raise InputError(f"{dataset}: no query was answered under {', '.join(ORDER)}; `neat-data expand` does that")
    shown = sorted(asked, key=lambda record: record.query_id)[:queries]
    stdout().print(Group(*[part for record in shown for part in (_question(record), _side_by_side(record), Text())]))


def _by_prompt(record: Record) -> dict[str, Response]:
    responses: dict[str, list[Response]] = defaultdict(list)
    for response in record.responses:
        if response.origin == "sampled":
            responses[response.polarity or "plain"].append(response)
    return {prompt: sampled[0] for prompt, sampled in responses.items()}


def _question(record: Record) -> Text:
    return Text(visible(record.messages[-1].content), style="bold")


def _side_by_side(record: Record) -> Table:
    table = Table(expand=True)
    responses = [_by_prompt(record)[prompt] for prompt in ORDER]
    for prompt, response in zip(ORDER, responses, strict=True):
        table.add_column(f"{prompt}, reward {response.reward:.2f}", ratio=1)
    table.add_row(*[Text(visible(response.text)) for response in responses])
    return table


if __name__ == "__main__":
    sys.exit(main())
