"""Check a dataset folder: every hash first, then every promise of every record.

Damage is reported, never raised. Bytes and sha256 are compared before anything in a shard is believed. Memory is that
of one shard, and 16 bytes a record for finding queries that occur twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from neat_data.errors import InputError
from neat_data.plain import Plain
from neat_data.record import SCHEMA, Record, from_table
from neat_data.store import manifest as manifests
from neat_data.store import reviews
from neat_data.store.atomic import TEMPORARY, locked, remove_leftovers, write_atomically
from neat_data.store.commit import counts_of, metadata_of
from neat_data.store.documents import Metadata, RoundSummary, ShardMetadata
from neat_data.store.inside import links, reaches_out, regular_file
from neat_data.store.local_folder import LocalFolder
from neat_data.store.location import Location, locate, writable
from neat_data.store.manifest import Manifest, Round, rejects_name, shard_name, shard_number
from neat_data.store.record_rules import added_faults, base_faults, folded_rounds
from neat_data.store.scores import format as scores
from neat_data.store.shard import (
    DamagedShard,
    ShardEntry,
    damage,
    elements,
    file_sha256,
    read_shard,
    reason,
    shard_entry,
    shard_metadata,
)

CAVEATS = (
    f"{manifests.FILE} was made anew; its hashes were computed just now, so damage from before shows only where a "
    "record's ids, ranking or counts no longer hold",
    "package versions are lost; a round counts as finished where its writer left no work behind, so the last shards "
    "may be missing: the same command again makes them",
)
_PLAN, _STAGED = ".plan", ".round"  # where writers keep what they work from until they are through
_LINES_A_SHARD = 5
_ROWS_AT_ONCE = 1024
_OWN_FILES = {manifests.FILE, "README.md"}
_OWN_FOLDERS = {"reviews", "scores"}


@dataclass
class Rebuilt:
    """The new manifest, None where no shard could be read, and the shards that were left out with their reasons."""

    manifest: Manifest | None = None
    left_out: list[str] = field(default_factory=list)


def rebuild_manifest(root: Path) -> Rebuilt:
    """Make `dataset.json` from the shards under `root`, and write it.

    Raises:
        InputError: another process writes to the folder.
    """
    rebuilt = Rebuilt()
    with locked(root):
        remove_leftovers(root)
        for path in sorted(root.glob("round-*/*.arrow")):
            numbers = shard_number(f"{path.parent.name}/{path.name}")
            if numbers:
                _take(path, numbers[0], rebuilt)
        if rebuilt.manifest is not None:
            rebuilt.manifest = _taken_up(root, rebuilt.manifest)
            content = rebuilt.manifest.to_bytes()
            write_atomically(root / manifests.FILE, lambda file: file.write(content))
    return rebuilt


def _rebuilt_at(location: Location, copy: Path) -> Rebuilt:
    """The same for a URL, of which `copy` holds the files. What writes there leaves its card when it is through."""
    place = writable(location)
    with place.held(lambda _: None):
        if not (copy / "README.md").exists():
            (copy / _PLAN).mkdir()
        rebuilt = rebuild_manifest(copy)
        if rebuilt.manifest is not None:
            place.document(manifests.FILE).write(rebuilt.manifest.to_bytes())
    return rebuilt


def _taken_up(root: Path, manifest: Manifest) -> Manifest:
    """The rounds of which no writer has left its work marked complete, so that work goes on from them."""
    at_work = {0} if (root / _PLAN).is_dir() else set()
    if (root / _STAGED).is_dir():
        at_work.add(manifest.newest.round)
    for round in manifest.rounds:
        whole = round.round > 0 or sorted(round.numbers()) == list(range(len(round.shards)))
        if round.shards and whole and round.round not in at_work:
            manifest = manifest.with_round(replace(round, complete=True, summary=_summary(root, round)))
    return manifest


def _summary(root: Path, round: Round) -> RoundSummary:
    metadata = [metadata_of(root / entry.name) for entry in round.shards]
    names = [name for name in ("source_rows", "queries_cut") if name in metadata[0]]
    sums = cast(RoundSummary, {name: sum(each.get(name, 0) for each in metadata) for name in names})
    return {**sums, **counts_of(root, round)}


def _take(path: Path, round: int, rebuilt: Rebuilt) -> None:
    """Add one shard to the manifest in the making."""
    try:
        metadata, entry = _read(path)
    except Exception as error:  # damage may surface as anything
        rebuilt.left_out.append(f"{path.parent.name}/{path.name}: left out, cannot be read ({reason(error)})")
        return
    settings = metadata["settings"]
    fingerprint = manifests.fingerprint_of(settings)
    if rebuilt.manifest is None:
        folded = settings.get("folded", {}).get("rounds", ())  # rounds without shards that `compact` entered
        rounds = tuple(Round(**fields, complete=True, summary={"folded": True}) for fields in folded)
        rebuilt.manifest = Manifest(metadata.get("kind", "score"), fingerprint, settings, rounds=rounds)
    if round and not rebuilt.manifest.round(round).fingerprint:
        added = Round(round, kind=metadata.get("kind", ""), settings=settings, fingerprint=fingerprint)
        rebuilt.manifest = rebuilt.manifest.with_round(added)
    if fingerprint != rebuilt.manifest.fingerprint_at(round):
        rebuilt.left_out.append(f"{entry.name}: left out, made with other settings than the first shard")
        return
    rebuilt.manifest = rebuilt.manifest.with_entries(round, [entry])


def _read(path: Path) -> tuple[ShardMetadata, ShardEntry]:
    if not isinstance(shard_metadata(path).get("settings"), dict):
        raise DamagedShard(path, "it does not say what it was made with")
    return metadata_of(path), shard_entry(path)


@dataclass(frozen=True, slots=True)
class Verification(Plain):
    """What `verify` found.

    Attributes:
        findings: what is wrong, a short line each; empty where all is well.
        notes: what is worth knowing and harms nothing.
        shards, records, responses, labels: how many were looked at.
        rejected: rejected source rows by reason.
    """

    findings: list[str]
    notes: list[str]
    shards: int
    records: int
    responses: int
    labels: int
    rejected: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the fields, and before them `ok`."""
        return {"ok": self.ok, **Plain.to_dict(self)}


@dataclass
class _Tally:
    """A `Verification` in the making."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shards: int = 0
    records: int = 0
    responses: int = 0
    labels: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def result(self) -> Verification:
        return Verification(**{**vars(self), "rejected": dict(sorted(self.rejected.items()))})


def verify(path: str | Path, rebuild: bool = False) -> Verification:
    """Check the dataset at `path`.

    Args:
        path: a folder, or a URL: then every file is fetched once, into a temporary folder that holds all of them.
        rebuild: make a lost or unreadable manifest anew from what the shards say of themselves.

    Raises:
        InputError: nothing is there; or, with `rebuild`, another process writes to it.
    """
    location = locate(path)
    with location.copied() as root:
        tally = _Tally([reaches_out(name) for name in links(root)])
        if not tally.findings:  # nothing is opened before the links are gone
            manifest = _manifest(root, location, rebuild, tally)
            if manifest is not None:
                _Verifier(root, manifest, tally).run()
        return tally.result()


def _manifest(root: Path, location: Location, rebuild: bool, tally: _Tally) -> Manifest | None:
    """The manifest, made anew if that is wanted and needed; None where there is none to go by.

    Args:
        root: the dataset, or a copy of it.
        location: where it lies.
    """
    file = regular_file(root, manifests.FILE)
    try:
        if file is None:
            raise FileNotFoundError
        manifest = Manifest.from_bytes(file.read_bytes(), manifests.FILE)
    except FileNotFoundError:
        trouble = f"{manifests.FILE}: missing"
    except (InputError, OSError) as error:
        trouble = str(error).splitlines()[0]
    else:
        if rebuild:
            tally.notes.append(f"{manifests.FILE} is there and can be read, so it was not made anew")
        return manifest
    if not rebuild:
        tally.findings.append(f"{trouble} (`neat-data verify {location} --rebuild` makes it anew)")
        return None
    rebuilt = rebuild_manifest(root) if isinstance(location, LocalFolder) else _rebuilt_at(location, root)
    tally.findings += rebuilt.left_out
    if rebuilt.manifest is None:
        tally.findings.append(f"{trouble}, and there is no shard to make it from")
    else:
        tally.notes += CAVEATS
    return rebuilt.manifest


@dataclass
class _Verifier:
    """One run of `verify` over a folder whose manifest can be read."""

    root: Path
    manifest: Manifest
    tally: _Tally
    queries: bytearray = field(default_factory=bytearray)  # 16 bytes a record of round 0
    source_rows: int = 0
    broken: set[str] = field(default_factory=set)  # names of shards and rejects that are missing or damaged

    def run(self) -> None:
        findings = self.tally.findings
        if self.manifest.fingerprint != manifests.fingerprint_of(self.manifest.settings):
            findings.append(f"{manifests.FILE}: the fingerprint does not match the settings")
        for round in self.manifest.rounds:
            if round.settings and round.fingerprint != manifests.fingerprint_of(round.settings):
                findings.append(f"{manifests.FILE}: round {round.round}: the fingerprint does not match the settings")
        self._check_names()
        for round in self.manifest.rounds:
            for number, entry in round.numbers().items():
                findings += _shortened(entry.name, list(self._shard_faults(round.round, number, entry)))
        findings += _repeated(self.queries)
        first = self.manifest.round(0)
        findings += self._sum_faults(first) if first.complete else ()
        unfinished = [round.round for round in self.manifest.rounds if not round.complete]
        self.tally.notes += [f"round {number} is not finished" for number in unfinished]
        findings += scores.faults(self.root, self.broken)
        findings += self._review_faults()
        self.tally.notes += scores.unfinished(self.root)

    def _check_names(self) -> None:
        """Look for files that do not belong, and for gaps in the numbers of the shards."""
        first = self.manifest.round(0)
        known = {entry.name for round in self.manifest.rounds for entry in round.shards}
        known |= {
            rejects_name(round.round, number) for round in self.manifest.rounds for number in round.numbers()
        } | _OWN_FILES
        for name in _files(self.root):
            if name.endswith(TEMPORARY):
                self.tally.notes.append(f"{name}: left by a killed writer; the next run removes it")
            elif shard_number(name) and name not in known:
                self.tally.findings.append(f"{name}: not in the manifest (the same command again adopts it)")
            elif name.startswith("rejects/") and name not in known and first.complete:
                self.tally.findings.append(f"{name}: belongs to no shard")
            elif name not in known and name.split("/")[0] not in {"rejects", *_OWN_FOLDERS}:
                self.tally.notes.append(f"{name}: not a file of this dataset")
        missing = list(islice(_gaps(sorted(first.numbers())), _LINES_A_SHARD))
        if first.complete and missing:
            self.broken.update(shard_name(0, n) for n in missing)
            self.tally.findings += [f"{shard_name(0, n)}: not in the manifest" for n in missing]

    def _shard_faults(self, round: int, number: int, entry: ShardEntry) -> Iterator[str]:
        self.tally.shards += 1
        wrong = damage(self.root / entry.name, entry)
        if wrong:
            self.broken.add(entry.name)
            yield wrong
            return
        try:
            yield from self._content_faults(round, number, entry)
        except Exception as error:  # what was stored wrongly may break any reader: that is a finding too
            self.broken.add(entry.name)
            yield f"cannot be read ({reason(error)})"

    def _content_faults(self, round: int, number: int, entry: ShardEntry) -> Iterator[str]:
        """What is wrong inside a shard whose bytes are those that were written."""
        path = self.root / entry.name
        metadata, table = shard_metadata(path), read_shard(path)
        if not table.schema.remove_metadata().equals(SCHEMA):
            yield "its columns are not those of a record"
            return
        table.validate(full=True)
        self.tally.records += len(table) if round == 0 else 0
        self.tally.responses += elements(table, "responses")
        if (len(table), elements(table, "responses")) != (entry.rows, entry.responses):
            yield "the manifest counts other rows or responses"
        yield from self._metadata_faults(round, number, metadata)
        if round == 0:
            self.tally.labels += elements(table, "labels")
            self.source_rows += metadata.get("source_rows", 0)
        for fault in self._reject_faults(round, number, metadata):
            self.broken.add(rejects_name(round, number))
            yield fault
        if any(shard_name(before, number) in self.broken for before in range(round)):
            return  # its records cannot be held against those of a shard that is named already
        earlier = self._earlier(round, number)
        folded = folded_rounds(self.manifest.settings)
        for record in _records(table):
            faults = base_faults(record, folded) if round == 0 else added_faults(record, round, earlier)
            yield from (f"query {record.query_id}: {fault}" for fault in faults)
            if round == 0:
                self.queries += bytes.fromhex(record.query_id)

    def _metadata_faults(self, round: int, number: int, metadata: Metadata) -> Iterator[str]:
        if (metadata.get("round"), metadata.get("number")) != (round, number):
            yield f"was written as shard {metadata.get('number')} of round {metadata.get('round')}"
        if metadata.get("fingerprint") != self.manifest.fingerprint_at(round):
            yield "was made with other settings than the manifest says"

    def _reject_faults(self, round: int, number: int, metadata: Metadata) -> Iterator[str]:
        """Compare a shard's rejects with what it says of them."""
        name = rejects_name(round, number)
        path = self.root / name
        said = metadata.get("rejected", {})
        if not path.is_file():
            if said:
                yield f"{name} is missing, which held {sum(said.values())} rejected rows"
            return
        if file_sha256(path) != metadata.get("rejects_sha256"):
            yield f"{name} is damaged: its sha256 is not that of the file that was written"
            return
        try:
            with path.open(encoding="utf-8") as lines:
                counted = Counter(str(json.loads(line)["reason"]) for line in lines)
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            yield f"{name} cannot be read ({type(error).__name__})"
            return
        if round == 0:
            self.tally.rejected += counted
        if counted != said:
            yield f"{name} holds {dict(counted)}, but the shard counts {said}"

    def _earlier(self, round: int, number: int) -> dict[str, set[str]]:
        """Ids of the responses that each query of a base shard had before `round`."""
        known: dict[str, set[str]] = {}
        for entry in self.manifest.rounds:
            if entry.round < round and number in entry.numbers():
                for record in _records(read_shard(self.root / shard_name(entry.round, number))):
                    known.setdefault(record.query_id, set()).update(r.response_id for r in record.responses)
        return known

    def _review_faults(self) -> Iterator[str]:
        """Lines of reviewers that cannot be read; one that a killed writer left without its end is a note."""
        for path in sorted((self.root / reviews.FOLDER).glob("*.jsonl")):
            name = f"{reviews.FOLDER}/{path.name}"
            try:
                if reviews.read_events(path.read_bytes(), name).torn:
                    self.tally.notes.append(f"{name}: its last line has no end (a killed writer); it does not count")
            except InputError as error:
                yield str(error)

    def _sum_faults(self, first: Round) -> Iterator[str]:
        """Rows in = rows in labels + rows rejected."""
        if self.broken:  # then they mean nothing
            return
        labels, rejected = self.tally.labels, sum(self.tally.rejected.values())
        expected = {first.summary.get("source_rows", labels + rejected), self.source_rows}
        if expected != {labels + rejected}:
            yield (
                f"{' or '.join(map(str, sorted(expected)))} source rows went in, "
                f"but {labels} are in labels and {rejected} were rejected"
            )


def _gaps(numbers: list[int]) -> Iterator[int]:
    """What is missing in a sorted list of numbers from 0, however far they reach."""
    for before, after in pairwise([-1, *numbers]):
        yield from range(before + 1, after)


def _files(root: Path) -> Iterator[str]:
    """Names of the files under `root`, sorted; hidden ones only where a killed writer left them."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if path.is_file() and (not hidden or name.endswith(TEMPORARY)):
            yield name


def _records(table: pa.Table) -> Iterator[Record]:
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from from_table(pa.Table.from_batches([batch]))


def _shortened(name: str, lines: list[str]) -> list[str]:
    more = len(lines) - _LINES_A_SHARD
    shown = [f"{name}: {line}" for line in lines[:_LINES_A_SHARD]]
    return [*shown, f"{name}: and {more:,} more"] if more > 0 else shown


def _repeated(queries: bytearray) -> list[str]:
    """Queries that more than one record asks."""
    ids = np.sort(np.frombuffer(bytes(queries), "S16"))  # numpy compares trailing NULs away on both sides alike
    repeats = np.unique(ids[1:][ids[1:] == ids[:-1]])
    lines = [f"query {bytes(i).ljust(16, bytes(1)).hex()}: in more than one record" for i in repeats]
    return _shortened("dataset", lines)
