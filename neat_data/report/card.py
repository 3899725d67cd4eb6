"""A dataset's card: the hub's header, what the dataset is, its figures, its rounds and prompts, how to open it.

Markdown, made of the manifest and the stats alone, so the same dataset has the same card wherever and whenever it is
made. Names from the dataset are made visible and escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neat_data.analysis.stats import PAPER_MODEL
from neat_data.report.escape import one_line
from neat_data.report.header import folder_configs, header, shard_configs
from neat_data.report.tables import (
    MISSING,
    WARNING,
    Table,
    agreement,
    length,
    number,
    rewards,
    shares,
    spread,
    unpaired,
)
from neat_data.store.documents import Settings
from neat_data.store.folder import DatasetFolder

if TYPE_CHECKING:
    from neat_data.analysis.result import Stats
    from neat_data.store.dataset import PreferenceDataset
    from neat_data.store.manifest import Round

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&$!]|:(?=//)|(?<=www)\.)")
OPENING = """```python
import neat_data

dataset = neat_data.open("path/to/this/folder")
for record in dataset.records():   # queries with their responses, best first
    ...
dataset.scan()                     # polars LazyFrame, one row a response
dataset.to_hf()                    # datasets.Dataset
```"""
_TOOLS = "`neat-data stats`, `show` and `verify` work on this folder; rejected source rows are in `rejects/`."
OPENING_EXPORT = """```python
import datasets

dataset = datasets.load_from_disk("path/to/this/folder")   # from the hub: datasets.load_dataset("its id")
```"""
_FILES = 20
_LICENCES = {PAPER_MODEL: "cc-by-nc-4.0"}
_PLACES = {
    "last_user": "in front of the last user turn",
    "first_user": "in front of the first user turn",
    "system": "as a system turn",
}


@dataclass(frozen=True, slots=True)
class Export:
    """What an exported copy holds of the dataset.

    Attributes:
        records: rows of the copy, one a record.
        left_out: responses of other polarities.
        polarities: those that were taken.
        limit: records taken at most.
        keep_pairs: the strategy that kept some of them.
        rank_by: the scores that stand in for the dataset's own rewards.
        license, language: of the copy.
        on_hub: whether it goes to the hub, where `datasets` itself says which files hold the data.
    """

    records: int
    left_out: int
    polarities: tuple[str, ...]
    limit: int | None = None
    keep_pairs: str | None = None
    rank_by: str | None = None
    license: str | None = None
    language: str | None = None
    on_hub: bool = False


def card(dataset: PreferenceDataset, stats: Stats, export: Export | None = None) -> str:
    """The card as Markdown behind its YAML header; same dataset, same text.

    Args:
        dataset: what `neat_data.open` returns.
        stats: its figures.
        export: where the card is that of an exported copy.
    """
    figures = [shares(stats), spread(stats), agreement(stats), rewards(stats), length(stats), unpaired(stats)]
    parts = [
        _header(dataset, stats, export),
        "# Preference dataset with rewards",
        _summary(stats),
        *([_exported(export, stats)] if export else []),
        _warning(stats, export),
        "## Source",
        _source(dataset.manifest.settings.get("source") or {}),
        "## Reward model",
        _settings(dataset.manifest.settings.get("reward_model") or {}),
        _licence(stats.reward_model),
        "## Figures",
        *(markdown(table) for table in figures if table.rows),
        "## What is in it",
        markdown(_rounds(dataset, stats)),
        _rejected(stats),
        *_prompts(dataset),
        "## How to open it",
        OPENING_EXPORT if export else OPENING,
        *([] if export else [_TOOLS]),
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    r"""Text that Markdown shows as it stands, on one line.

    >>> plain("[a](b) <i> | `c`")
    '\\[a\\](b) \\<i\\> \\| \\`c\\`'
    """
    return _MARKUP.sub(r"\\\1", one_line(text))


def _summary(stats: Stats) -> str:
    counts = stats.counts
    lost = sum(counts.rejected.values())
    rows = (
        ""
        if counts.source_rows is None
        else f" Made from {counts.source_rows:,} source rows, {lost:,} of them rejected."
    )
    return (
        f"{counts.records:,} queries with {counts.responses:,} responses and their rewards.{rows}\n"
        f"{counts.labels:,} labels say what people preferred, {counts.repeated:,} of them on a query that an earlier\n"
        f"row asked; they make {counts.pairs:,} pairs of a chosen and a rejected response."
    )


def _header(dataset: PreferenceDataset, stats: Stats, export: Export | None) -> str:
    if export is None:
        return header(dataset, stats.counts.records, configs=shard_configs(dataset)).rstrip("\n")
    configs = None if export.on_hub else folder_configs(dataset)
    said = header(dataset, export.records, license=export.license, language=export.language, configs=configs)
    return said.rstrip("\n")


def _exported(export: Export, stats: Stats) -> str:
    """What the copy holds, and that the figures are not its own where something was left out."""
    lines = [f"This is a copy of {export.records:,} of its records."]
    if stats.where is not None:
        lines.append(f"Chosen by: {plain(stats.where)}.")
    if export.limit is not None:
        lines.append(f"No more than {export.limit:,} were taken.")
    if export.keep_pairs is not None:
        lines.append(f"Kept by their pairs: {plain(export.keep_pairs)}.")
    if export.left_out:
        kinds = ", ".join(export.polarities)
        lines.append(f"{export.left_out:,} responses were left out: only those of polarity {kinds} are here.")
    if export.left_out or export.limit is not None or export.keep_pairs is not None:
        lines.append("The figures below count what was left out as well.")
    if export.rank_by is not None:
        by = plain(export.rank_by)
        lines.append(f"Its rewards are those of {by}; the figures are of the reward model named below.")
    return "\n".join(lines)


def _warning(stats: Stats, export: Export | None) -> str:
    negative = sum(g.rewards.count for g in stats.rewards if (g.kind, g.name) == ("polarity", "negative"))
    if not negative or (export and "negative" not in export.polarities):
        return f"> **Content warning.** {WARNING}"
    asked = f"{negative:,} responses were sampled under a prompt that asks for bad answers on purpose."
    return f"> **Content warning.** {WARNING} {asked}"


def _licence(model: str | None) -> str:
    known = _LICENCES.get((model or "").split("@")[0])
    if known:
        return f"The reward model's licence is {known}; see to it that it allows what you do with its rewards."
    return "The licence of the reward model is not recorded here; look it up before you publish its rewards."


def _source(source: Settings) -> str:
    """Where the rows came from: the hub's name and revision, and the files."""
    files = [f"- file: {plain(name)}" for name in sorted(source.get("files") or {})]
    more = [f"- and {len(files) - _FILES:,} more files"] if len(files) > _FILES else []
    return "\n".join([_settings(source), *files[:_FILES], *more])


def _settings(reward_model: Settings) -> str:
    """Plain settings, one line each."""
    stated = {name: value for name, value in sorted(reward_model.items()) if isinstance(value, str | int | float)}
    if not stated:
        return "Not stated."
    return "\n".join(f"- {plain(name)}: {plain(str(value))}" for name, value in stated.items())


def _rounds(dataset: PreferenceDataset, stats: Stats) -> Table:
    means = {group.name: group.rewards.mean for group in stats.rewards if group.kind == "round"}
    rows = []
    for part in dataset.manifest.rounds:
        queries, responses = sum(s.rows for s in part.shards), sum(s.responses for s in part.shards)
        state = "complete" if part.complete else "unfinished"
        mean = number(means.get(str(part.round)))
        rows.append((str(part.round), _maker(part), _named(part), f"{queries:,}", f"{responses:,}", mean, state))
    columns = ("round", "from", "prompts", "queries", "responses", "mean reward", "state")
    return Table("Rounds", columns, tuple(rows))


def _maker(part: Round) -> str:
    """Who wrote a round's responses: the source, the policy, or whom nobody named."""
    if part.round == 0:
        return "source"
    return one_line(str((part.settings.get("policy") or {}).get("model") or part.kind or MISSING))


def _named(part: Round) -> str:
    return one_line(str((part.settings.get("prompts") or {}).get("name") or MISSING))


def _prompts(dataset: PreferenceDataset) -> Iterator[str]:
    """Every prompt that responses were sampled under, once, with its text."""
    sets = [(part.settings.get("prompts") or {}).get("prompts") or [] for part in dataset.manifest.rounds]
    shown = dict.fromkeys(_prompt(prompt) for prompts in sets for prompt in prompts)
    if shown:
        yield "## Prompts"
        yield from shown


def _prompt(prompt: Settings) -> str:
    name = f"**{plain(str(prompt['name']))}**"
    if prompt.get("text") is None:
        return f"{name}: the bare query."
    polarity = f"{plain(str(prompt['polarity']))}, " if prompt.get("polarity") else ""
    place = _PLACES.get(str(prompt.get("placement")), "")
    return f"{name} ({polarity}{place}):\n\n> {plain(str(prompt['text']))}"


def _rejected(stats: Stats) -> str:
    counts = stats.counts.rejected
    if not sum(counts.values()):
        return "No source row was rejected."
    rows = tuple((reason, f"{count:,}") for reason, count in counts.items() if count)
    return markdown(Table("Rejected source rows", ("reason", "rows"), rows))


def markdown(table: Table) -> str:
    """A table as Markdown, with its title above and its remark below."""
    lines = [f"**{plain(table.title)}**", ""] if table.title else []
    lines.append(_row(table.columns))
    lines.append("| --- |" + " ---: |" * (len(table.columns) - 1))
    lines += [_row(row) for row in table.rows]
    if table.note:
        lines += ["", plain(table.note)]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"


def write_card(folder: DatasetFolder) -> None:
    """The dataset card, made from the figures of `stats`."""
    from neat_data.analysis.stats import compute
    from neat_data.report.card import card
    from neat_data.store.dataset import PreferenceDataset

    dataset = PreferenceDataset.open(folder.path)
    folder.write_card(card(dataset, compute(dataset)))
