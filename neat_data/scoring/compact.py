"""Fold a dataset's rounds, human verdicts and scores into the base shards of a new dataset.

Readers see the same records before and after, and every reader of the new one maps plain shards. A folded response
keeps its round number. The rounds that were folded stay in the new manifest, without shards, so that `expand` goes on
with the next number and knows what was sampled already. A response that a reviewer dropped leaves; a source row whose
label goes with it is rejected (`dropped_in_review`), so that no row is lost from the account.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.progress import Silent, Watcher
from neat_data.record import Label, Record, canonical_json, from_table
from neat_data.report.card import write_card
from neat_data.sources.row import place_of
from neat_data.store.address import DatasetPath
from neat_data.store.commit import commit_shard
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import RejectLine, RoundSummary, Settings, ShardMetadata
from neat_data.store.folder import DatasetFolder
from neat_data.store.join import as_rewards, flat_responses
from neat_data.store.manifest import Round
from neat_data.store.scores.folder import ScoresFolder, commit_scores, score_table
from neat_data.store.shard import ShardEntry, read_shard

KIND = "compact"
REASON = "dropped_in_review"
Place = tuple[str, str | None, str | None, int]  # of a source row: name, subset, split, row


@dataclass(frozen=True)
class CompactSummary:
    """What came of it. `already` says that the folder was complete before; `counts` is the manifest's summary."""

    out: DatasetPath
    already: bool
    rounds: int
    dropped: int
    counts: RoundSummary

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        folded = {"folded_rounds": self.rounds, "dropped_responses": self.dropped}
        return {"out": str(self.out), "already": self.already, **folded, **self.counts}


def compact(
    path: str | Path, out: DatasetPath, *, compression: str | None = None, watch: Watcher | None = None
) -> CompactSummary:
    """Write the dataset at `path` into `out` with its rounds, verdicts and scores folded in.

    The same call again goes on where an earlier one stopped.

    Args:
        path: a finished dataset, a folder or a URL.
        out: a new folder, or its URL.
        compression: `zstd` for shipping, None for shards that can be mapped.

    Raises:
        InputError: `path` is no finished dataset, its scores are not complete, or `out` holds something else.
        RunError: the disk is full.
    """
    watch = watch or Silent()
    source = PreferenceDataset.open(path)
    _require_whole(source)
    with DatasetFolder.claim(out, watch.say) as folder:
        folder.begin(_settings(source, compression), versions=source.manifest.versions, kind=KIND)
        for note in folder.notes:
            watch.say(note)
        already = folder.finished
        if not already:
            _fold_shards(source, folder, watch)
        _fold_scores(source, folder)  # some of a finished dataset's may have been lost
        if not already:
            _finish(source, folder)
        if not already or folder.place.read("README.md") is None:
            write_card(folder)
        return CompactSummary(out, already, len(source.manifest.rounds) - 1, len(source.dropped), folder.summary(0))


def _require_whole(source: PreferenceDataset) -> None:
    if not source.complete:
        raise InputError(f"{source.path}: is not finished. Run the command that made it (or its newest round) again.")
    for name in source.models[1:]:
        if source.scores(name).missing(source.manifest):
            raise InputError(
                f"{source.path}: scores/{name} does not cover every response yet.\n"
                f"Rescore again (the same `neat-data rescore … --name {name}`), or remove the folder."
            )


def _settings(source: PreferenceDataset, compression: str | None) -> Settings:
    """What the source was made with, and what of it was folded: shards, verdicts and scores, by their hashes."""
    rounds = [
        {"round": round.round, "kind": round.kind, "settings": round.settings, "fingerprint": round.fingerprint}
        for round in _later(source)
    ]
    folded = {
        "fingerprint": source.manifest.fingerprint,
        "content": _sha256([entry.sha256 for round in source.manifest.rounds for entry in round.shards]),
        "dropped": _sha256(sorted(source.dropped)),
        "scores": {name: source.scores(name).fingerprint for name in source.models[1:]},
        "rounds": [*source.manifest.settings.get("folded", {}).get("rounds", ()), *rounds],
    }
    return {**source.manifest.settings, "compression": compression, "folded": folded}


def _later(source: PreferenceDataset) -> list[Round]:
    """The rounds that were not folded before."""
    return [round for round in source.manifest.rounds if round.round and round.shards]


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _fold_shards(source: PreferenceDataset, folder: DatasetFolder, watch: Watcher) -> None:
    done = folder.done(0)
    watch.phase("folding", len(source))
    for number, entry in source.manifest.round(0).numbers().items():
        if number not in done:
            folder.record(0, _fold(source, folder, number))
        watch.advance(entry.rows)


def _fold(source: PreferenceDataset, folder: DatasetFolder, number: int) -> ShardEntry:
    """One base shard with everything that belongs to its queries."""
    table = source.shard_table(number)
    rejects = [*source.rejects(number), *_lost_labels(source, number, table)]
    stored = source.shard_metadata(number)
    metadata: ShardMetadata = {"kind": KIND, "fingerprint": folder.fingerprint, "settings": folder.settings}
    if "source_rows" in stored:
        metadata["source_rows"] = stored["source_rows"]
    if "queries_cut" in stored:
        metadata["queries_cut"] = stored["queries_cut"]
    return commit_shard(folder.place, 0, number, table, rejects, metadata, folder.settings["compression"])


def _lost_labels(source: PreferenceDataset, number: int, table: pa.Table) -> Iterator[RejectLine]:
    """A reject for every source row whose label is gone, since a reviewer dropped what it spoke of."""
    if not source.dropped:
        return
    left = {(record.query_id, _place(label)) for record in from_table(table) for label in record.labels}
    for record in source.shard_records(number):
        for label in record.labels:
            if (record.query_id, _place(label)) not in left:
                yield _reject(record, label)


def _place(label: Label) -> Place:
    return label.name, label.subset, label.split, label.row


def _reject(record: Record, label: Label) -> RejectLine:
    content = record.to_dict()["messages"]
    raw = {"messages": content, "responses": [record.response(identifier).text for identifier in label.order]}
    detail = "a reviewer dropped a response of this row"
    return {**place_of(label), "reason": REASON, "detail": detail, "raw": canonical_json(raw)}


def _fold_scores(source: PreferenceDataset, folder: DatasetFolder) -> None:
    """The scores of further models, in the order of the new shards."""
    for name in source.models[1:]:
        scores = source.scores(name)
        made = ScoresFolder(folder.place, name, folder.manifest)
        made.begin(scores.settings, versions=scores.versions)
        identity = {"fingerprint": scores.fingerprint, "settings": scores.settings}
        for round, number, entry in made.missing:
            rewards = as_rewards(
                source.shard_table(number, scores=True)["scores"].combine_chunks().field(name).flatten()
            )
            ids = flat_responses(read_shard(folder.place.shard(entry))).field("response_id")
            reasons = source.refusals(name, number)
            refused = [reasons.get(identifier) for identifier in ids.to_pylist()]
            table = score_table(ids, rewards, refused)
            made.record(commit_scores(folder.place, name, (round, number, entry.sha256), table, identity))
        made.enter()


def _finish(source: PreferenceDataset, folder: DatasetFolder) -> None:
    for round in source.manifest.rounds:
        if round.round:
            folder.enter_round(round)
    summary = source.manifest.round(0).summary
    names = ("source_rows", "repeated_rows", "queries_cut")
    folder.finish(0, cast(RoundSummary, {name: count for name, count in summary.items() if name in names}))
