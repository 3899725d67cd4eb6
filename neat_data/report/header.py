"""The hub's YAML header of a dataset card: what the hub files a dataset under, and where its data lie.

A licence is never guessed: it is `unknown` until somebody says it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset

UNKNOWN = "unknown"
_TAGS = ["preference", "rlhf", "reward-model", "neat-align"]
_SIZES = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M"), (10**9, "1B"))


def header(
    dataset: PreferenceDataset,
    records: int,
    *,
    license: str | None = None,
    language: str | None = None,
    configs: list[dict[str, Any]] | None = None,
) -> str:
    """Front matter: YAML between two lines of dashes.

    Args:
        dataset: names its source, where that is on the hub.
        records: for the hub's class of size.
        license, language: the hub's codes, where somebody said them.
        configs: which files hold the data; None where something else says it.
    """
    source = (dataset.manifest.settings.get("source") or {}).get("name")
    keys = {
        "license": license or UNKNOWN,
        "language": [language] if language else None,
        "task_categories": ["text-generation"],
        "tags": _TAGS,
        "size_categories": [size_category(records)],
        "source_datasets": [source] if isinstance(source, str) else None,
        "configs": configs,
    }
    given = {key: value for key, value in keys.items() if value is not None}
    return f"---\n{yaml.safe_dump(given, sort_keys=False, allow_unicode=True)}---\n"


def size_category(records: int) -> str:
    """The hub's class of size.

    >>> size_category(999), size_category(1000), size_category(2_000_000), size_category(10**9)
    ('n<1K', '1K<n<10K', '1M<n<10M', 'n>1B')
    """
    below = "n"
    for limit, name in _SIZES:
        if records < limit:
            return f"{below}<{name}" if below == "n" else f"{below}<n<{name}"
        below = name
    return "n>1B"


def shard_configs(dataset: PreferenceDataset) -> list[dict[str, Any]]:
    """One configuration a round: the records are the default one, and what a later round added has its own."""
    split = _split(dataset)
    return [
        {
            "config_name": "default" if part.round == 0 else f"round-{part.round:04d}",
            "data_files": [{"split": split, "path": f"round-{part.round:04d}/*.arrow"}],
        }
        for part in dataset.manifest.rounds
        if part.shards
    ]


def folder_configs(dataset: PreferenceDataset) -> list[dict[str, Any]]:
    """The files that `datasets` writes into a folder."""
    files = [{"split": _split(dataset), "path": "data-*.arrow"}]
    return [{"config_name": "default", "data_files": files}]


def _split(dataset: PreferenceDataset) -> str:
    """The split that was read, where it was one; the hub's word for a dataset without splits is train."""
    split = (dataset.manifest.settings.get("source") or {}).get("split")
    return split if isinstance(split, str) and re.fullmatch(r"\w+", split) and split != "all" else "train"
