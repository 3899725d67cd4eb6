"""The writing side of a dataset: a folder or URL held by one writer, to which shards are committed one by one.

A shard is committed when it has its final name. Its rejects are written before it and its manifest entry after it, so
whatever the moment of a kill, the same command again finds whole shards, adopts those that the manifest does not know
yet, and makes the rest; the resulting folder equals that of an undisturbed run byte for byte. Reading is in `dataset`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

import pyarrow as pa

from neat_data.errors import InputError, RunError
from neat_data.record import canonical_json
from neat_data.store import manifest as manifests
from neat_data.store.address import DatasetPath, folder_or_url
from neat_data.store.atomic import remove_leftovers
from neat_data.store.claim import changes, version_notes
from neat_data.store.commit import adopt, commit_shard, counts_of, damaged, shard_files
from neat_data.store.documents import RejectLine, RoundIdentity, RoundSummary, Settings, ShardMetadata
from neat_data.store.location import Writable, writable
from neat_data.store.manifest import WAITING_SHARE, Manifest, rejects_name, shard_name
from neat_data.store.markers import with_body
from neat_data.store.scores import folder as scores_folder
from neat_data.store.shard import ShardEntry

_DROPPED = ".dropped-round-"  # what a round's folder is called on its way out
REJECTS = "rejects"  # may lie there alone: what is left of a source of which no row could be read


class DatasetFolder:
    """A dataset's folder, held for writing until `close` (or the end of a `with`, or the process's death).

    Attributes:
        path: the folder, or its URL.
        place: where that is.
        notes: lines worth telling the user: versions that changed since the first run.
    """

    def __init__(self, path: DatasetPath, place: Writable) -> None:
        """Use `claim` or `open`."""
        self.path, self.place = path, place
        self.notes: list[str] = []
        self._held = ExitStack()
        self._waiting: list[tuple[int, ShardEntry]] = []  # committed, and not in the file yet
        self._file = place.document(manifests.FILE)
        content = self._file.content
        self._manifest = None if content is None else Manifest.from_bytes(content, place.where(manifests.FILE))

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], settings: Settings, *, versions: dict[str, str], kind: str = "score"
    ) -> Self:
        """`claim` and `begin` in one."""
        folder = cls.claim(path)
        try:
            folder.begin(settings, versions=versions, kind=kind)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def claim(cls, path: str | os.PathLike[str], say: Callable[[str], None] = lambda _: None) -> Self:
        """Hold `path`, made where it does not exist, before the settings are known.

        Args:
            path: a folder, or a URL that can be written to.
            say: told where this waits for a writer that did not let go.

        Raises:
            InputError: the folder holds something else, another process writes to it, or it cannot be written to.
        """
        place = writable(path)
        _refuse_others_folders(path, place)
        with ExitStack() as stack:
            stack.enter_context(place.held(say))
            folder = cls(folder_or_url(path), place)
            folder._finish_dropping()
            folder._held = stack.pop_all()
            return folder

    def begin(self, settings: Settings, *, versions: dict[str, str], kind: str = "score") -> None:
        """Start the dataset, or take up the one that was started with the same settings.

        Args:
            settings: JSON-able; the resolved settings that can change a byte.
            versions: of packages; a difference to those of the first run is noted and otherwise ignored.
            kind: the verb.

        Raises:
            InputError: the folder holds a dataset that was made with other settings.
        """
        settings = json.loads(canonical_json(settings))
        fresh = Manifest(kind, manifests.fingerprint_of(settings), settings, versions)
        if self._manifest is None:
            self._write(fresh)
            return
        self._refuse_other_settings(fresh)
        self.notes += version_notes(self._manifest.versions, versions)

    def begin_round(self, kind: str, settings: Settings, *, versions: dict[str, str]) -> int:
        """The number of the round that these settings make: begun before, or the next one, which is entered now.

        Args:
            kind: the verb.
            settings: JSON-able; the resolved settings that can change a byte.
            versions: of packages; a difference to those that the round was begun with is noted.

        Raises:
            InputError: round 0 is not finished, or the newest round is not and was begun with other settings.
        """
        self.require_finished()
        settings = json.loads(canonical_json(settings))
        fingerprint = manifests.fingerprint_of(settings)
        for entry in self.manifest.rounds:
            if entry.round and entry.fingerprint == fingerprint:
                self.notes += version_notes(entry.versions, versions)
                return entry.round
        newest = self.manifest.newest
        if not newest.complete:
            raise InputError(
                f"{self.path}: round {newest.round} is not finished and was begun with other settings "
                f"({changes(newest.settings, settings)}).\n"
                f"Finish it with its own settings, or remove it: neat-data rounds {self.path} "
                f"--drop-round {newest.round}"
            )
        fresh = manifests.Round(
            newest.round + 1, kind=kind, settings=settings, fingerprint=fingerprint, versions=versions
        )
        self._write(self.manifest.with_round(fresh))
        return fresh.round

    @property
    def next_round(self) -> int:
        """The number of the round that is not finished, or that comes next."""
        return self.manifest.next_round

    def enter_round(self, folded: manifests.Round) -> None:
        """Enter a round whose responses lie in the base shards, so that later rounds are numbered after it."""
        self._write(self.manifest.with_round(replace(folded, shards=(), summary={**folded.summary, "folded": True})))

    def require_finished(self) -> None:
        """Raise InputError unless round 0 is complete, so that rounds may follow."""
        if not self.begun or not self.finished:
            raise InputError(
                f"{self.path}: the dataset itself is not finished. Run `neat-data score` again; it goes on."
            )

    def drop_round(self, number: int) -> None:
        """Remove the newest round: its shards, rejects and further scores. A kill in between is made good by `claim`.

        Raises:
            InputError: there is no such round, it is not the newest, or it is round 0.
        """
        newest = self.manifest.newest.round
        if number != newest or number == 0:
            have = f"the newest is {newest}" if newest else "there is none but round 0, the dataset itself"
            raise InputError(f"{self.path}: only the newest round can be removed, and {have}.")
        if self.manifest.newest.summary.get("folded"):
            raise InputError(f"{self.path}: round {number} was folded into the base shards; it cannot be removed.")
        self.place.set_aside(shard_name(number, 0).split("/")[0], f"{_DROPPED}{number}")
        self._finish_dropping()

    def _finish_dropping(self) -> None:
        """Forget the rounds that are on their way out."""
        for leaving in [*self.place.folders(""), *self.place.files("")]:
            if not leaving.startswith(_DROPPED):
                continue
            if not re.fullmatch(rf"{re.escape(_DROPPED)}[1-9]\d{{0,8}}", leaving) or leaving in self.place.files(""):
                raise InputError(f"{self.place.where(leaving)}: is nothing that this project leaves behind; remove it.")
            self._forget(int(leaving.removeprefix(_DROPPED)))
            self.place.remove(leaving)

    def _forget(self, number: int) -> None:
        """Remove what is left of a round that is on its way out."""
        self.place.remove(shard_name(number, 0).split("/")[0])
        self.place.remove(rejects_name(number, 0).rsplit("/", 1)[0])
        scores_folder.drop_round(self.place, number)
        if self._manifest is not None:
            self._write(self.manifest.without_round(number))

    @property
    def begun(self) -> bool:
        """Whether there is a manifest, from `begin` or an earlier run."""
        return self._manifest is not None

    @property
    def manifest(self) -> Manifest:
        """What `dataset.json` says. RuntimeError before `begin`."""
        entered = self._written
        for round in {round for round, _ in self._waiting}:
            entered = entered.with_entries(round, [entry for of, entry in self._waiting if of == round])
        return entered

    @property
    def _written(self) -> Manifest:
        """The same without the shards that wait to be entered."""
        if self._manifest is None:
            raise RuntimeError("begin() comes first")
        return self._manifest

    @property
    def settings(self) -> Settings:
        """The settings that the dataset was begun with."""
        return self._written.settings

    @property
    def fingerprint(self) -> str:
        """sha256 over the canonical JSON of `settings`."""
        return self._written.fingerprint

    @property
    def finished(self) -> bool:
        """Whether round 0 is complete and all of its shards are there in full length."""
        first = self.manifest.round(0)
        sizes = {name: size for _, name, size in shard_files(self.place, 0)} if first.complete else {}
        return first.complete and all(sizes.get(entry.name) == entry.bytes for entry in first.shards)

    def summary(self, round: int) -> RoundSummary:
        """What `finish` stored for this round."""
        return self.manifest.round(round).summary

    def entries(self, round: int) -> tuple[ShardEntry, ...]:
        """The shards of a round that the manifest knows, by number."""
        return self.manifest.round(round).shards

    def done(self, round: int) -> set[int]:
        """Numbers of the committed shards; those that the manifest does not know yet are hashed and entered.

        Raises:
            InputError: a shard was made with other settings, or is damaged.
        """
        known = self.manifest.round(round).numbers()
        numbers = set()
        adopted = []
        for number, name, size in shard_files(self.place, round):
            if number not in known:
                adopted.append(adopt(self.place, name, self.manifest.fingerprint_at(round)))
            elif size != known[number].bytes:
                raise InputError(damaged(self.place.where(name), "its length is not what the manifest says"))
            numbers.add(number)
        if adopted:
            self._write(self.manifest.with_entries(round, adopted))
        return numbers

    def lost(self, round: int) -> set[int]:
        """Numbers of the shards that the manifest knows and that are not there.

        Raises:
            InputError: a shard is damaged, or was made with other settings.
        """
        known = self.manifest.round(round).numbers()
        return known.keys() - self.done(round)

    def commit(
        self,
        round: int,
        number: int,
        table: pa.Table,
        rejects: Sequence[RejectLine],
        metadata: ShardMetadata,
    ) -> ShardEntry:
        """`commit_shard` with this folder's fingerprint and settings in the metadata; `record` comes after it."""
        made: Manifest | manifests.Round = self._written.round(round) if round else self._written
        identity: RoundIdentity = {"kind": made.kind, "fingerprint": made.fingerprint, "settings": made.settings}
        return commit_shard(self.place, round, number, table, rejects, {**identity, **metadata})

    def record(self, round: int, entry: ShardEntry) -> None:
        """Enter a committed shard into the manifest: at once, or where there are many with the next ones.

        A list of ten thousand shards is not written ten thousand times; those that wait are adopted after a kill.
        """
        self._waiting.append((round, entry))
        known = sum(len(each.shards) for each in self._written.rounds)
        if len(self._waiting) > known // WAITING_SHARE:
            self._write(self.manifest)

    def finish(self, round: int, summary: RoundSummary) -> None:
        """Mark a round complete.

        Args:
            round: its number.
            summary: JSON-able counts. `source_rows`, where given, must be rows in labels + rows rejected. Records,
                responses, labels and rejects by reason are counted here and added.

        Raises:
            RunError: the rows do not add up, or a shard is missing.
        """
        remove_leftovers(self.place.workplace)  # of workers that died
        begun = self.manifest.round(round)
        counts = counts_of(self.place, begun)
        if round == 0 and sorted(begun.numbers()) != list(range(len(begun.shards))):
            raise RunError(f"{self.path}: shards are missing; run the same command again.")
        accounted = counts["labels"] + sum(counts["rejected"].values())
        if summary.get("source_rows", accounted) != accounted:
            raise RunError(
                f"{self.path}: {summary['source_rows']} source rows went in, but {counts['labels']} are in labels and "
                f"{accounted - counts['labels']} were rejected. This is a mistake of this program; please report it."
            )
        done = replace(begun, complete=True, summary={**summary, **counts})
        self._write(self.manifest.with_round(done))

    def write_card(self, body: str) -> None:
        """Put `body` (Markdown) between the markers of README.md; what is around them stays."""
        file = self.place.document("README.md")
        file.write(with_body(file.content or b"", body))

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, manifest: Manifest) -> None:
        self._file.write(manifest.to_bytes())
        self._manifest = manifest
        self._waiting.clear()

    def _refuse_other_settings(self, fresh: Manifest) -> None:
        was = self.manifest
        if was.kind != fresh.kind:
            raise InputError(
                f"{self.path}: was made by `{was.kind}`, not by `{fresh.kind}`.", advice="Choose another {out}."
            )
        if was.fingerprint != fresh.fingerprint:
            raise InputError(
                f"{self.path}: was made with other settings ({changes(was.settings, fresh.settings)}).",
                advice="Choose another {out}, or run with the settings that it was made with.",
            )


def _refuse_others_folders(path: str | os.PathLike[str], place: Writable) -> None:
    """Raise InputError unless `path` holds a dataset of ours, the beginnings of one, or nothing."""
    names = [name for name in place.others() if name != REJECTS]
    if manifests.FILE in names:
        return
    if "round-0000" in names:
        raise InputError(
            f"{path}: holds shards, but {manifests.FILE} is missing. `neat-data verify {path} --rebuild` makes it anew."
        )
    if names:
        raise InputError(
            f"{path}: holds something else ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}).\n"
            "Choose a folder that is new or empty, or one that this command has written."
        )
