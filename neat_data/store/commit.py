"""One shard made part of a dataset's folder, and one that was found there looked at.

A shard's rejects are written before it, so that it is whole as soon as it has its final name.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.store.atomic import full_disk_explained, write_atomically
from neat_data.store.documents import RejectLine, RoundSummary, ShardMetadata
from neat_data.store.manifest import COUNTS, FORMAT_VERSION, Round, rejects_name, shard_name, shard_number
from neat_data.store.shard import DamagedShard, ShardEntry, elements, shard_entry, shard_metadata, write_shard
from neat_data.store.typed import require_counts


def commit_shard(
    root: Path,
    round: int,
    number: int,
    table: pa.Table,
    rejects: Sequence[RejectLine],
    metadata: ShardMetadata,
    compression: str | None = None,
) -> ShardEntry:
    """Commit one shard: its rejects first, then the shard itself. Opens nothing else, so any process may call it.

    Args:
        root: the dataset's folder, held by this process or the one that started it.
        round: 0 for what came with the source.
        number: the shard's number.
        table: rows of `neat_data.record.SCHEMA`; may be empty.
        rejects: one dict a rejected source row, with `reason`; stored as JSON lines.
        metadata: JSON-able; `fingerprint` and `settings` of the dataset, and `source_rows`. Counts of labels and
            rejects and the hash of the rejects are added.
        compression: as `write_shard` takes it.

    Raises:
        RunError: the disk is full.
    """
    path = root / shard_name(round, number)
    with full_disk_explained(path):
        path.parent.mkdir(exist_ok=True)
    own: ShardMetadata = {
        "format_version": FORMAT_VERSION,
        "round": round,
        "number": number,
        "labels": elements(table, "labels"),
        "rejected": dict(Counter(reject["reason"] for reject in rejects)),
        "rejects_sha256": _write_rejects(root / rejects_name(round, number), rejects) if rejects else None,
    }
    return write_shard(path, table, {**metadata, **own}, compression)


def _write_rejects(path: Path, rejects: Sequence[RejectLine]) -> str:
    """Write one JSON line a reject; returns the file's sha256."""
    lines = "".join(canonical_json(reject) + "\n" for reject in rejects)
    content = lines.encode(errors="backslashreplace")  # a lone surrogate becomes JSON's own escape for it
    with full_disk_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))
    return hashlib.sha256(content).hexdigest()


def shards_on_disk(root: Path, round: int) -> Iterator[tuple[int, Path]]:
    """(number, path) of everything in a round's folder that has a shard's final name, by number."""
    for path in sorted((root / shard_name(round, 0)).parent.glob("*.arrow")):
        numbers = shard_number(f"{path.parent.name}/{path.name}")
        if numbers and path.is_file():
            yield numbers[1], path


def adopt(path: Path, fingerprint: str) -> ShardEntry:
    """The entry of a shard whose writer was killed between the rename and the manifest.

    Args:
        fingerprint: of the settings that it must have been made with.

    Raises:
        InputError: it was made with other settings, or is damaged.
    """
    try:
        metadata, entry = metadata_of(path), shard_entry(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(damaged(path, "it is no whole Arrow file")) from error
    if metadata.get("fingerprint") != fingerprint:
        raise InputError(
            f"{path}: was made with other settings than this folder's.\n"
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


def size(path: Path) -> int | None:
    """Of a file, in bytes; None where there is none."""
    return path.stat().st_size if path.exists() else None


def damaged(path: Path, why: str) -> str:
    """What is said of a shard that cannot be used."""
    return f"{path}: damaged: {why}.\nRemove it and run the same command again: it is made anew."


def counts_of(root: Path, round: Round) -> RoundSummary:
    """What a round holds, from what its shards say of themselves."""
    rejected: Counter[str] = Counter()
    labels = 0
    for entry in round.shards:
        metadata = metadata_of(root / entry.name)
        rejected.update(metadata["rejected"])
        labels += metadata["labels"]
    return {
        "records": sum(entry.rows for entry in round.shards),
        "responses": sum(entry.responses for entry in round.shards),
        "labels": labels,
        "rejected": dict(sorted(rejected.items())),
    }
