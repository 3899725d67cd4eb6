"""A lost manifest, made anew from what the shards say of themselves; what cannot be vouched for is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neat_data.store import manifest as manifests
from neat_data.store.atomic import locked, remove_leftovers, write_atomically
from neat_data.store.manifest import Manifest, Round, shard_number
from neat_data.store.shard import ShardEntry, shard_entry, shard_metadata

CAVEATS = (
    f"{manifests.FILE} was made anew; its hashes were computed just now, so damage from before shows only where a "
    "record's ids, ranking or counts no longer hold",
    "package versions are lost, and whether the run had finished is not known: the same command again finishes it",
)


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
            content = rebuilt.manifest.to_bytes()
            write_atomically(root / manifests.FILE, lambda file: file.write(content))
    return rebuilt


def _take(path: Path, round: int, rebuilt: Rebuilt) -> None:
    """Add one shard to the manifest in the making."""
    try:
        metadata, entry = _read(path)
    except Exception as error:  # damage may surface as anything
        rebuilt.left_out.append(f"{path.parent.name}/{path.name}: left out, cannot be read ({error})")
        return
    settings = metadata["settings"]
    fingerprint = manifests.fingerprint_of(settings)
    if rebuilt.manifest is None:
        folded = settings.get("folded", {}).get("rounds", ())  # rounds without shards that `compact` entered
        rounds = tuple(Round(**at, complete=True, summary={"folded": True}) for at in folded)
        rebuilt.manifest = Manifest(metadata.get("kind", "score"), fingerprint, settings, rounds=rounds)
    if round and not rebuilt.manifest.round(round).fingerprint:
        at = Round(round, kind=metadata.get("kind", ""), settings=settings, fingerprint=fingerprint)
        rebuilt.manifest = rebuilt.manifest.with_round(at)
    if fingerprint != rebuilt.manifest.fingerprint_at(round):
        rebuilt.left_out.append(f"{entry.name}: left out, made with other settings than the first shard")
        return
    rebuilt.manifest = rebuilt.manifest.with_entries(round, [entry])


def _read(path: Path) -> tuple[dict[str, Any], ShardEntry]:
    metadata = shard_metadata(path)
    if not isinstance(metadata.get("settings"), dict):
        raise ValueError("it does not say what it was made with")
    return metadata, shard_entry(path)
