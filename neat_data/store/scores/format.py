"""`scores/NAME`: the rewards that a further reward model gave to every response, beside the shards they belong to.

One file a shard, in the order of its responses: `scores/NAME/00000.arrow` for round 0, for later ones
`scores/NAME/round-0001/00000.arrow`. `scores/NAME/scores.json` says what made them, and of each file to which shard (by
sha256) it belongs; like the dataset's own manifest it is derived and tells no time, machine or path. What is here reads
and checks; `folder` writes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from neat_data.errors import InputError
from neat_data.store import manifest as manifests
from neat_data.store.documents import Settings
from neat_data.store.join import as_rewards, flat_responses
from neat_data.store.manifest import Manifest, fingerprint_of, shard_name
from neat_data.store.shard import DamagedShard, ShardEntry, damage, read_shard, reason, shard_metadata
from neat_data.store.typed import built

FOLDER = "scores"
FILE = "scores.json"
FORMAT_VERSION = 1
OWN = "reward"  # the dataset's own rewards, where scores are named
RESERVED = (OWN, "mean", "min")
SCHEMA = pa.schema([("response_id", pa.string()), ("reward", pa.float32()), ("refused", pa.string())])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str) -> None:
    """Raise InputError unless `name` can stand in a path and in `--rank-by`."""
    if name in RESERVED or not _NAME.fullmatch(name):
        raise InputError(
            f"scores are named by a plain word (letters, digits, '.', '_', '-'), and not {', '.join(RESERVED)}.",
            field="name",
            value=repr(name),
        )


def scores_name(name: str, round: int, number: int) -> str:
    """The name of the file that holds the scores of a shard.

    >>> scores_name("mine", 0, 12), scores_name("mine", 1, 12)
    ('scores/mine/00012.arrow', 'scores/mine/round-0001/00012.arrow')
    """
    inside = shard_name(round, number)
    return f"{FOLDER}/{name}/{inside if round else inside.split('/')[1]}"


@dataclass(frozen=True)
class ScoreShard:
    """One file of scores.

    Attributes:
        round, number: of the shard that it belongs to.
        of: that shard's sha256.
        refused: responses without a score, by reason.
        entry: the file itself.
    """

    round: int
    number: int
    of: str
    refused: dict[str, int]
    entry: ShardEntry


@dataclass(frozen=True)
class Scores:
    """The content of `scores.json`: what made the scores, and every file, by round and number."""

    name: str
    fingerprint: str
    settings: Settings
    versions: dict[str, str] = field(default_factory=dict)
    shards: tuple[ScoreShard, ...] = ()

    def shard(self, round: int, number: int, of: str) -> ScoreShard | None:
        """The scores of this shard, None where there are none for its content."""
        entry = self._numbered.get((round, number))
        return entry if entry is not None and entry.of == of else None

    def missing(self, dataset: Manifest) -> list[tuple[int, int, ShardEntry]]:
        """(round, number, entry) of every shard of the dataset that has no scores yet."""
        jobs = shards_of(dataset)
        return [(round, number, entry) for round, number, entry in jobs if not self.shard(round, number, entry.sha256)]

    @property
    def identity(self) -> Settings:
        """What each of its files says of how it was made."""
        return {"fingerprint": self.fingerprint, "settings": self.settings}

    @cached_property
    def _numbered(self) -> dict[tuple[int, int], ScoreShard]:
        return {(s.round, s.number): s for s in self.shards}

    @property
    def refused(self) -> dict[str, int]:
        """Responses without a score, by reason."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.refused)
        return dict(sorted(total.items()))

    def with_shards(self, shards: Sequence[ScoreShard]) -> Scores:
        """The same with exactly these files."""
        return replace(self, shards=tuple(sorted(shards, key=lambda s: (s.round, s.number))))

    def to_bytes(self) -> bytes:
        """The file's content."""
        return manifests.written(FORMAT_VERSION, asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes, where: object) -> Scores:
        """The inverse of `to_bytes`.

        Raises:
            InputError: damaged, or written by a later version of this project.
        """
        remedy = "Remove the file and run the same `neat-data rescore` again: it makes it anew."
        with manifests.understood(content, where, FORMAT_VERSION, remedy) as document:
            return built(cls, {**document, "shards": tuple(_shard(document["name"], s) for s in document["shards"])})


def _shard(name: str, content: dict[str, Any]) -> ScoreShard:
    shard = built(ScoreShard, {**content, "entry": built(ShardEntry, content["entry"])})
    if shard.entry.name != scores_name(name, shard.round, shard.number):  # nothing outside the folder is ever opened
        raise ValueError(f"{shard.entry.name!r} holds no scores of shard {shard.number} of round {shard.round}")
    return shard


def shards_of(dataset: Manifest) -> list[tuple[int, int, ShardEntry]]:
    """(round, number, entry) of every shard that the manifest knows, in order."""
    return [(round.round, number, entry) for round in dataset.rounds for number, entry in round.numbers().items()]


def read_scores(path: Path, ids: pa.Array) -> np.ndarray:
    """The scores of one shard, float32, NaN where there is none.

    Args:
        path: the file.
        ids: of the shard's responses, in its order.

    Raises:
        InputError: the file cannot be read, or is about other responses.
    """
    try:
        table = read_shard(path)
    except (OSError, DamagedShard) as error:
        raise InputError(_unreadable(path, f"cannot be read ({reason(error)})")) from error
    if not table["response_id"].combine_chunks().equals(ids):
        raise InputError(_unreadable(path, "is about other responses than its shard holds"))
    return as_rewards(table["reward"].combine_chunks())


def _unreadable(path: Path, why: str) -> str:
    return f"{path}: {why}.\nRemove it and run the same `neat-data rescore` again: it is made anew."


def faults(root: Path, broken: Container[str] = ()) -> Iterator[str]:
    """What is wrong with the scores under `root`, a short line each; shards that were not scored yet are no fault.

    Args:
        broken: names of shards that are known to be damaged: what belongs to them is not looked into.
    """
    dataset = Manifest.from_bytes((root / manifests.FILE).read_bytes(), root / manifests.FILE)
    for folder in sorted(path for path in (root / FOLDER).glob("*") if path.is_dir()):
        files = {path.relative_to(root).as_posix() for path in folder.rglob("*.arrow")}
        name = f"{FOLDER}/{folder.name}/{FILE}"
        try:
            scores = Scores.from_bytes((root / name).read_bytes(), name)
        except FileNotFoundError:
            if files:
                yield f"{name}: missing (the same `neat-data rescore` again makes it anew)"
            continue
        except InputError as error:
            yield str(error).splitlines()[0]
            continue
        yield from _scores_faults(root, scores, dataset, broken)
        unknown = files - {shard.entry.name for shard in scores.shards}
        yield from (f"{name}: not in {FILE} (the same command again adopts it)" for name in sorted(unknown))


def unfinished(root: Path) -> Iterator[str]:
    """A line for every model that has not scored all of the dataset's responses."""
    dataset = Manifest.from_bytes((root / manifests.FILE).read_bytes(), root / manifests.FILE)
    for file in sorted((root / FOLDER).glob(f"*/{FILE}")):
        try:
            left = Scores.from_bytes(file.read_bytes(), file).missing(dataset)
        except InputError:
            continue  # that is a fault
        if left:
            yield f"{FOLDER}/{file.parent.name}: {len(left):,} shards are not scored yet (rescore again)"


def _scores_faults(root: Path, scores: Scores, dataset: Manifest, broken: Container[str]) -> Iterator[str]:
    where = f"{FOLDER}/{scores.name}/{FILE}"
    if scores.fingerprint != fingerprint_of(scores.settings):
        yield f"{where}: the fingerprint does not match the settings"
    present = {(round, number): entry for round, number, entry in shards_of(dataset)}
    for shard in scores.shards:
        name, scored = shard.entry.name, present.get((shard.round, shard.number))
        wrong = damage(root / name, shard.entry)
        if wrong:
            yield f"{name}: {wrong}"
        elif scored is None or scored.sha256 != shard.of:
            yield f"{name}: belongs to no shard of the dataset (the same command again makes it anew)"
        elif scored.name not in broken:
            yield from (f"{name}: {fault}" for fault in _shard_faults(root, scores, shard, scored))


def _shard_faults(root: Path, scores: Scores, shard: ScoreShard, scored: ShardEntry) -> Iterator[str]:
    """What is wrong inside a file whose bytes are those that were written."""
    try:
        path = root / shard.entry.name
        metadata, table = shard_metadata(path), read_shard(path)
        ids = flat_responses(read_shard(root / scored.name)).field("response_id")
        if not table.schema.remove_metadata().equals(SCHEMA):
            yield "its columns are not those of scores"
        elif not table["response_id"].combine_chunks().equals(ids):
            yield "does not hold exactly the responses of its shard, in its order"
        else:
            rewards, reasons = table["reward"].combine_chunks(), table["refused"].combine_chunks()
            if not np.isfinite(rewards.drop_null().to_numpy(zero_copy_only=False)).all():
                yield "a score is not a finite number"
            if not rewards.is_null().equals(reasons.is_valid()):
                yield "a score is missing without a reason, or has one"
        if metadata.get("fingerprint") != scores.fingerprint:
            yield f"was made with other settings than {FILE} says"
    except Exception as error:  # what was stored wrongly may break any reader: that is a finding too
        yield f"cannot be read ({reason(error)})"
