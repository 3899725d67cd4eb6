"""The writing side of `scores/NAME`, under the dataset's lock, which the caller holds.

A file is committed when it has its final name; one that the manifest does not know yet is adopted. Killed anywhere and
called again, the same bytes come out.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.store.atomic import full_disk_explained, write_atomically
from neat_data.store.claim import changes, version_notes
from neat_data.store.documents import Settings
from neat_data.store.join import from_rewards
from neat_data.store.manifest import Manifest, fingerprint_of, shard_name
from neat_data.store.scores.format import (
    FILE,
    FOLDER,
    FORMAT_VERSION,
    SCHEMA,
    Scores,
    ScoreShard,
    check_name,
    scores_name,
    shards_of,
)
from neat_data.store.shard import ShardEntry, read_shard, shard_entry, shard_metadata, write_shard


def score_table(ids: pa.Array, rewards: np.ndarray, refused: Sequence[str | None]) -> pa.Table:
    """The rows of one file.

    Args:
        ids: of the shard's responses, in its order.
        rewards: one a response, float32; NaN where there is none.
        refused: the reason for each of those, else None.
    """
    columns = [ids, from_rewards(rewards), pa.array(refused, pa.string())]
    return pa.table(columns, schema=SCHEMA)


def commit_scores(
    root: Path, name: str, job: tuple[int, int, str], table: pa.Table, metadata: Mapping[str, Any]
) -> ScoreShard:
    """Write the scores of one shard. Opens nothing else, so any process may call it.

    Args:
        root: the dataset's folder, held by this process or the one that started it.
        name: of the scores.
        job: round, number and sha256 of the shard that they belong to.
        table: what `score_table` made.
        metadata: JSON-able; `fingerprint` and `settings` of the scores.

    Raises:
        RunError: the disk is full.
    """
    round, number, of = job
    path = root / scores_name(name, round, number)
    with full_disk_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    own = {"format_version": FORMAT_VERSION, "kind": "rescore", "round": round, "number": number, "of": of}
    entry = write_shard(path, table, {**metadata, **own})
    return ScoreShard(round, number, of, _refusals(table), _own_entry(entry, name, round, number))


def _own_entry(entry: ShardEntry, name: str, round: int, number: int) -> ShardEntry:
    return replace(entry, name=scores_name(name, round, number), responses=entry.rows)


def _refusals(table: pa.Table) -> dict[str, int]:
    return dict(sorted(Counter(table["refused"].drop_null().to_pylist()).items()))


class ScoresFolder:
    """The writing side of `scores/NAME`, in a dataset folder that the caller holds.

    Attributes:
        notes: lines worth telling the user: versions that changed since the first run.
    """

    def __init__(self, root: Path, name: str, dataset: Manifest) -> None:
        """Raises InputError where `name` cannot be one, or what is there is damaged."""
        check_name(name)
        self.notes: list[str] = []
        self._root, self._name, self._dataset = root, name, dataset
        self._file = root / FOLDER / name / FILE
        self._scores = Scores.from_bytes(self._file.read_bytes(), self._file) if self._file.exists() else None

    @property
    def scores(self) -> Scores:
        """What `scores.json` says. RuntimeError before `begin`."""
        if self._scores is None:
            raise RuntimeError("begin() comes first")
        return self._scores

    @property
    def missing(self) -> list[tuple[int, int, ShardEntry]]:
        """(round, number, entry) of every shard that has no scores yet."""
        return self.scores.missing(self._dataset)

    def begin(self, settings: Settings, *, versions: dict[str, str]) -> None:
        """Start the scores, or take up those that were started with the same settings.

        Files of shards that are no longer there are forgotten; files that no manifest knows yet are adopted.

        Raises:
            InputError: there are scores of this name that were made with other settings.
        """
        settings = json.loads(canonical_json(settings))
        fresh = Scores(self._name, fingerprint_of(settings), settings, versions)
        known = self._scores or fresh
        self._refuse_other_settings(known.settings, settings)
        self.notes += version_notes(known.versions, versions)
        present = {(round, number, entry.sha256) for round, number, entry in shards_of(self._dataset)}
        kept = [s for s in known.shards if (s.round, s.number, s.of) in present and self._whole(s)]
        known = known.with_shards(kept)
        adopted = [s for job in known.missing(self._dataset) if (s := self._adopted(job, settings)) is not None]
        self._write(known.with_shards([*kept, *adopted]))

    def record(self, shard: ScoreShard) -> None:
        """Enter the scores of a shard into the manifest, at once."""
        others = [s for s in self.scores.shards if (s.round, s.number) != (shard.round, shard.number)]
        self._write(self.scores.with_shards([*others, shard]))

    def _whole(self, shard: ScoreShard) -> bool:
        path = self._root / shard.entry.name
        return path.exists() and path.stat().st_size == shard.entry.bytes

    def _adopted(self, job: tuple[int, int, ShardEntry], settings: Settings) -> ScoreShard | None:
        """The scores of a shard whose writer was killed between the rename and the manifest; None: to be made."""
        round, number, of = job
        path = self._root / scores_name(self._name, round, number)
        try:
            metadata, entry, table = shard_metadata(path), shard_entry(path), read_shard(path)
        except (FileNotFoundError, pa.ArrowException, ValueError):
            return None
        if metadata.get("settings") != settings:
            self._refuse_other_settings(metadata.get("settings") or {}, settings)
        if metadata.get("of") != of.sha256:
            return None
        return ScoreShard(round, number, of.sha256, _refusals(table), _own_entry(entry, self._name, round, number))

    def _refuse_other_settings(self, was: Settings, settings: Settings) -> None:
        if changed := changes(was, settings):
            raise InputError(
                f"{self._file.parent}: was made with other settings ({changed}).",
                advice="Choose another {name}, or run with the settings that it was made with.",
            )

    def _write(self, scores: Scores) -> None:
        if scores != self._scores:
            _write(self._file, scores)
        self._scores = scores


def drop_round(root: Path, round: int) -> None:
    """Forget the scores of a round that is on its way out; may be called again after a kill.

    Args:
        root: the dataset's folder, held by the caller.
        round: its number.
    """
    for file in sorted((root / FOLDER).glob(f"*/{FILE}")):
        with contextlib.suppress(InputError):  # damaged: `rescore` makes it anew
            scores = Scores.from_bytes(file.read_bytes(), file)
            _write(file, scores.with_shards([s for s in scores.shards if s.round != round]))
    for folder in (root / FOLDER).glob(f"*/{shard_name(round, 0).split('/')[0]}"):
        for path in folder.glob("*.arrow"):
            path.unlink()
        folder.rmdir()


def _write(file: Path, scores: Scores) -> None:
    with full_disk_explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    content = scores.to_bytes()
    write_atomically(file, lambda out: out.write(content))
