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
from neat_data.store.address import DatasetPath
from neat_data.store.atomic import write_if_absent
from neat_data.store.claim import changes, version_notes
from neat_data.store.commit import put_shard
from neat_data.store.documents import Settings
from neat_data.store.join import from_rewards
from neat_data.store.location import Writable, writable
from neat_data.store.manifest import WAITING_SHARE, Manifest, fingerprint_of
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
from neat_data.store.shard import ShardEntry, read_shard, shard_entry, shard_metadata


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
    root: DatasetPath | Writable,
    name: str,
    job: tuple[int, int, str],
    table: pa.Table,
    metadata: Mapping[str, Any],
) -> ScoreShard:
    """Write the scores of one shard. Opens nothing else, so any process may call it.

    Args:
        root: the dataset's folder or URL, held by this process or the one that started it.
        name: of the scores.
        job: round, number and sha256 of the shard that they belong to.
        table: what `score_table` made.
        metadata: JSON-able; `fingerprint` and `settings` of the scores.

    Raises:
        RunError: the disk is full, a store does not answer, or other scores lie there.
    """
    round, number, of = job
    own = {"format_version": FORMAT_VERSION, "kind": "rescore", "round": round, "number": number, "of": of}
    entry = put_shard(writable(root), scores_name(name, round, number), table, {**metadata, **own})
    return ScoreShard(round, number, of, _refusals(table), _counted(entry))


def _counted(entry: ShardEntry) -> ShardEntry:
    """A file of scores has a row a response."""
    return replace(entry, responses=entry.rows)


def _refusals(table: pa.Table) -> dict[str, int]:
    return dict(sorted(Counter(table["refused"].drop_null().to_pylist()).items()))


def begin_together(root: Path, name: str, settings: Settings, versions: dict[str, str]) -> Scores:
    """Start scores that several processes make together, or take up those that another of them started.

    What they make is entered by `ScoresFolder.begin`, when they are through.

    Args:
        root: the dataset's folder, held together.

    Raises:
        InputError: they were started with other settings.
    """
    settings, file = json.loads(canonical_json(settings)), root / FOLDER / name / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_if_absent(file, Scores(name, fingerprint_of(settings), settings, versions).to_bytes())
    begun = Scores.from_bytes(file.read_bytes(), file)
    _refuse_other_settings(file.parent, begun.settings, settings)
    return begun


def _refuse_other_settings(where: object, was: Settings, settings: Settings) -> None:
    if changed := changes(was, settings):
        raise InputError(
            f"{where}: was made with other settings ({changed}).",
            advice="Choose another {name}, or run with the settings that it was made with.",
        )


class ScoresFolder:
    """The writing side of `scores/NAME`, in a dataset folder that the caller holds.

    Attributes:
        notes: lines worth telling the user: versions that changed since the first run.
    """

    def __init__(self, root: DatasetPath | Writable, name: str, dataset: Manifest) -> None:
        """Raises InputError where `name` cannot be one, or what is there is damaged."""
        check_name(name)
        self.notes: list[str] = []
        self._waiting: list[ScoreShard] = []
        self._place, self._name, self._dataset = writable(root), name, dataset
        self._file = self._place.document(f"{FOLDER}/{name}/{FILE}")
        content = self._file.content
        self._scores = None if content is None else Scores.from_bytes(content, self._where(FILE))

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
        _refuse_other_settings(self._where(), known.settings, settings)
        self.notes += version_notes(known.versions, versions)
        present = {(round, number, entry.sha256) for round, number, entry in shards_of(self._dataset)}
        sizes = self._sizes()
        kept = [
            s for s in known.shards if (s.round, s.number, s.of) in present and sizes.get(s.entry.name) == s.entry.bytes
        ]
        known = known.with_shards(kept)
        left = [job for job in known.missing(self._dataset) if scores_name(self._name, *job[:2]) in sizes]
        adopted = [shard for job in left if (shard := self._adopted(job, settings)) is not None]
        self._write(known.with_shards([*kept, *adopted]))

    def take_up(self) -> list[ScoreShard]:
        """`begin` with the settings that the scores were started with; InputError where nobody did.

        Returns:
            What had no entry yet, and has one now.
        """
        if self._scores is None:
            raise InputError(f"{self._where()}: holds no scores.", advice="Run the same command with {shards} first.")
        known = {(shard.round, shard.number) for shard in self._scores.shards}
        self.begin(self._scores.settings, versions=self._scores.versions)
        return [shard for shard in self.scores.shards if (shard.round, shard.number) not in known]

    def record(self, shard: ScoreShard) -> None:
        """Enter the scores of a shard: at once, or where there are many with the next ones, or by `enter`.

        A list of ten thousand shards is not written ten thousand times; those that wait are adopted after a kill.
        """
        self._waiting.append(shard)
        if len(self._waiting) > len(self.scores.shards) // WAITING_SHARE:
            self.enter()

    def enter(self) -> None:
        """Enter the scores that wait, if any."""
        if not self._waiting:
            return
        waiting = {(shard.round, shard.number): shard for shard in self._waiting}
        others = [shard for shard in self.scores.shards if (shard.round, shard.number) not in waiting]
        self._write(self.scores.with_shards([*others, *waiting.values()]))
        self._waiting = []

    def _sizes(self) -> dict[str, int]:
        """Of every file of scores that may be there, in bytes."""
        folders = [scores_name(self._name, round.round, 0).rsplit("/", 1)[0] for round in self._dataset.rounds]
        return {name: size for folder in folders for name, size in self._place.files(folder).items()}

    def _adopted(self, job: tuple[int, int, ShardEntry], settings: Settings) -> ScoreShard | None:
        """The scores of a shard whose writer was killed before it entered them; None: others, which are removed."""
        round, number, of = job
        name = scores_name(self._name, round, number)
        path = self._place.local(name)
        try:
            if path is None:
                raise FileNotFoundError(name)
            metadata, entry, table = shard_metadata(path), replace(shard_entry(path), name=name), read_shard(path)
        except (FileNotFoundError, pa.ArrowException, ValueError):
            self._place.remove(name)
            return None
        if metadata.get("settings") != settings:
            _refuse_other_settings(self._where(), metadata.get("settings") or {}, settings)
        if metadata.get("of") != of.sha256:
            self._place.remove(name)
            return None
        return ScoreShard(round, number, of.sha256, _refusals(table), _counted(entry))

    def _where(self, *file: str) -> str:
        return self._place.where("/".join((FOLDER, self._name, *file)))

    def _write(self, scores: Scores) -> None:
        if scores != self._scores:
            self._file.write(scores.to_bytes())
        self._scores = scores


def drop_round(root: DatasetPath | Writable, round: int) -> None:
    """Forget the scores of a round that is on its way out; may be called again after a kill.

    Args:
        root: the dataset's folder or URL, held by the caller.
        round: its number, of a later round.
    """
    place = writable(root)
    for name in place.folders(FOLDER):
        file = place.document(f"{FOLDER}/{name}/{FILE}")
        with contextlib.suppress(InputError):  # damaged: `rescore` makes it anew
            if file.content is not None:
                scores = Scores.from_bytes(file.content, FILE)
                file.write(scores.with_shards([s for s in scores.shards if s.round != round]).to_bytes())
        place.remove(scores_name(name, round, 0).rsplit("/", 1)[0])
