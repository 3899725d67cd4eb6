"""The JSON objects that a run leaves: settings.json and what is in it, by the names of their keys.

A key that is not there was not known to the version that wrote it.
"""

from __future__ import annotations

from typing import Any, TypedDict

from neat_data.store.documents import Settings

Section = dict[str, Any]
"""A section of the resolved settings (`FitSettings.resolved`): the terms of a loss, the rounds, the adapter."""


class PolicyContent(TypedDict, total=False):
    """What identifies a policy: name, hashes of weights and adapter or the hub's revision, and how it was loaded."""

    model: str
    weights: str
    revision: str
    adapter: str | None
    template: str
    tokenizer: str
    full: bool
    device: str
    dtype: str


class TrainedOn(TypedDict, total=False):
    """What identifies the records: the dataset's shards, and how many of its rounds were seen."""

    rounds: int
    sha256: str


class RunContent(TypedDict, total=False):
    """What a run is made of, in the words of its parts; without any place or time."""

    policy: PolicyContent
    dataset: TrainedOn
    reward_model: Settings | None
    prompts: list[Section]


class RunDocument(TypedDict, total=False):
    """settings.json.

    Attributes:
        settings: resolved; `identifying`: those that can change a byte.
        computing: path and attention that were chosen.
    """

    settings: Section
    fingerprint: str
    identifying: Section
    content: RunContent
    computing: Section
    ranks: int
    versions: dict[str, str]


class SourceOfRecords(TypedDict):
    """What a card says of the dataset that was trained on."""

    source: str | None
    fingerprint: str
