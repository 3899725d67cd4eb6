"""One shard made part of a dataset's folder, and one that was found there looked at.

A shard's rejects are written before it, so that it is whole as soon as it has its final name.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.store.address import DatasetPath
from neat_data.store.documents import RejectLine, RoundSummary, ShardMetadata
from neat_data.store.location import Location, Writable, locate, writable
from neat_data.store.manifest import COUNTS, FORMAT_VERSION, Round, rejects_name, shard_name, shard_number
from neat_data.store.shard import DamagedShard, ShardEntry, elements, entry_of, shard_bytes, shard_entry, shard_metadata
from neat_data.store.typed import require_counts


def commit_shard(
    root: DatasetPath | Writable,
    round: int,
    number: int,
    table: pa.Table,
    rejects: Sequence[RejectLine],
    metadata: ShardMetadata,
    compression: str | None = None,
) -> ShardEntry:
    """Commit one shard: its rejects first, then the shard itself. Opens nothing else, so any process may call it.

    Args:
        root: the dataset's folder or URL, held by this process or the one that started it.
        round: 0 for what came with the source.
        number: the shard's number.
        table: rows of `neat_data.record.SCHEMA`; may be empty.
        rejects: one dict a rejected source row, with `reason`; stored as JSON lines.
        metadata: JSON-able; `fingerprint` and `settings` of the dataset, and `source_rows`. Counts of labels and
            rejects and the hash of the rejects are added.
        compression: as `write_shard` takes it.

    Raises:
        RunError: the disk is full, a store does not answer, or another shard lies there.
    """
    place = writable(root)
    own: ShardMetadata = {
        "format_version": FORMAT_VERSION,
        "round": round,
        "number": number,
        "labels": elements(table, "labels"),
        "rejected": dict(Counter(reject["reason"] for reject in rejects)),
        "rejects_sha256": _write_rejects(place, rejects_name(round, number), rejects) if rejects else None,
    }
    return put_shard(place, shard_name(round, number), table, {**metadata, **own}, compression)


def put_shard(
    place: Writable, name: str, table: pa.Table, metadata: Mapping[str, Any], compression: str | None = None
) -> ShardEntry:
    """`write_shard` for any place, under a name inside it."""
    content = shard_bytes(table, metadata, compression)
    entry = entry_of(name, table, content)
    place.commit(entry, content.to_pybytes())
    return entry


def _write_rejects(place: Writable, name: str, rejects: Sequence[RejectLine]) -> str:
    """Write one JSON line a reject; returns the file's sha256."""
    lines = "".join(canonical_json(reject) + "\n" for reject in rejects)
    content = lines.encode(errors="backslashreplace")  # a lone surrogate becomes JSON's own escape for it
    place.put(name, content)
    return hashlib.sha256(content).hexdigest()


def shard_files(place: Writable, round: int) -> Iterator[tuple[int, str, int]]:
    """(number, name, bytes) of everything in a round's folder that has a shard's final name, by number."""
    for name, size in place.files(shard_name(round, 0).split("/")[0]).items():
        if numbers := shard_number(name):
            yield numbers[1], name, size


def adopt(place: Writable, name: str, fingerprint: str) -> ShardEntry:
    """The entry of a shard whose writer was killed between putting it there and the manifest.

    Args:
        name: inside the place.
        fingerprint: of the settings that it must have been made with.

    Raises:
        InputError: it was made with other settings, or is damaged.
    """
    try:
        path = place.local(name)
        if path is None:
            raise FileNotFoundError(name)
        metadata, entry = metadata_of(path), replace(shard_entry(path), name=name)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(damaged(place.where(name), "it is no whole Arrow file")) from error
    if metadata.get("fingerprint") != fingerprint:
        raise InputError(
            f"{place.where(name)}: was made with other settings than this folder's.\n"
            "Move it elsewhere and run the same command again."
        )
    return entry


def metadata_of(path: Path) -> ShardMetadata:
    """What a shard of a dataset says of itself, its counts being counts.

    Raises:
        DamagedShard: it cannot be read, or says something else.
    """
    metadata = shard_metadata(path)
    try:
        require_counts({"labels": None, "rejected": None, **metadata}, COUNTS, ("rejected",))
    except TypeError as error:
        raise DamagedShard(path, f"of itself it says that {error}") from error
    return cast(ShardMetadata, metadata)


def damaged(where: str, why: str) -> str:
    """What is said of a shard that cannot be used."""
    return f"{where}: damaged: {why}.\nRemove it and run the same command again: it is made anew."


def counts_of(root: DatasetPath | Location, round: Round) -> RoundSummary:
    """What a round holds, from what its shards say of themselves."""
    place = locate(root)
    rejected: Counter[str] = Counter()
    labels = 0
    for entry in round.shards:
        metadata = metadata_of(place.shard(entry))
        rejected.update(metadata["rejected"])
        labels += metadata["labels"]
    return {
        "records": sum(entry.rows for entry in round.shards),
        "responses": sum(entry.responses for entry in round.shards),
        "labels": labels,
        "rejected": dict(sorted(rejected.items())),
    }
