"""Where the candidates of an unfinished round lie: a hidden folder of the dataset, a shard of them a base shard.

A staged shard is committed like any other, so a run that was killed while sampling goes on with the next shard, and the
policy need not be in memory any more when the reward model is loaded. The folder goes when its round is finished.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.rounds.candidates import Candidate, from_table, to_table
from neat_data.store.address import DatasetPath
from neat_data.store.claim import changes, readable
from neat_data.store.documents import Metadata, Settings
from neat_data.store.location import writable
from neat_data.store.shard import DamagedShard, read_shard, shard_bytes, shard_metadata

FOLDER = ".round"
_STAGED = f"{FOLDER}/round.json"
_QUERIES = f"{FOLDER}/queries.arrow"


@dataclass(frozen=True)
class Staging:
    """The staging folder of a dataset.

    Attributes:
        root: the dataset's folder, or its URL.
        round: the number that the candidates' round will have.
        kind, settings: what they are made with.
        queries: ids of the queries that take part, by number of the base shard.
    """

    root: DatasetPath
    round: int
    kind: str
    settings: Settings
    queries: dict[int, list[str]]

    @classmethod
    def begin(
        cls, root: DatasetPath, round: int, kind: str, settings: Settings, queries: dict[int, list[str]]
    ) -> Staging:
        """Make the folder. `queries` are chosen once: what `--where` sees changes while the round is written."""
        place = writable(root)
        place.remove(FOLDER)
        numbers = [number for number, ids in queries.items() for _ in ids]
        ids = [query for ids in queries.values() for query in ids]
        table = pa.table({"number": pa.array(numbers, pa.int64()), "query_id": ids})
        place.put(_QUERIES, shard_bytes(table, {}).to_pybytes())
        content = {"round": round, "kind": kind, "settings": settings, "shards": sorted(queries)}
        place.put(_STAGED, canonical_json(content).encode())
        return cls(root, round, kind, settings, queries)

    @classmethod
    def found(cls, root: DatasetPath) -> Staging | None:
        """What lies in `root`, None where nothing does; InputError where that cannot be read."""
        place = writable(root)
        content = place.read(_STAGED)
        if content is None:
            return None
        with readable(place.where(_STAGED)):
            staged = json.loads(content)
            queries: dict[int, list[str]] = {number: [] for number in staged.pop("shards")}
            for row in read_shard(_local(root, _QUERIES)).to_pylist():
                queries[row["number"]].append(row["query_id"])
            return cls(root, **staged, queries=queries)

    def require(self, kind: str, settings: Settings) -> Staging:
        """Itself, where it was begun with these settings; else InputError says what differs."""
        if changed := changes({"kind": self.kind, **self.settings}, {"kind": kind, **settings}):
            raise InputError(
                f"{self.root}: round {self.round} is not finished and was begun with other settings "
                f"({changed}).\nFinish it with its own settings, or remove it: "
                f"neat-data rounds {self.root} --drop-round {self.round}"
            )
        return self

    def done(self) -> set[int]:
        """Numbers of the base shards whose candidates are all there."""
        names = writable(self.root).files(FOLDER)
        return {number for number in self.queries if _name(number) in names}

    def commit(self, number: int, candidates: Sequence[Candidate], metadata: Metadata) -> None:
        """Store the candidates of one base shard."""
        writable(self.root).put(_name(number), shard_bytes(to_table(candidates), metadata).to_pybytes())

    def candidates(self, number: int) -> tuple[list[Candidate], Metadata]:
        """The candidates of one base shard, and the metadata that they were stored with.

        Raises:
            DamagedShard: the file cannot be read, or answers other queries than those of this shard.
        """
        path = _local(self.root, _name(number))
        try:
            candidates = from_table(read_shard(path))
        except (KeyError, TypeError, UnicodeDecodeError) as error:  # other columns, or a text that is none
            raise DamagedShard(path, "it holds no candidates") from error
        if not {candidate.query_id for candidate in candidates} <= {*self.queries[number]}:
            raise DamagedShard(path, "it answers queries of another shard")
        return candidates, shard_metadata(path)

    def remove(self) -> None:
        """Delete the folder; `round.json` first, so that a kill in between leaves nothing that looks whole."""
        place = writable(self.root)
        place.remove(_STAGED)
        place.remove(FOLDER)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:05d}.arrow"


def _local(root: DatasetPath, name: str) -> Path:
    """A staged file on this machine."""
    place = writable(root)
    path = place.local(name)
    if path is None:
        raise InputError(f"{place.where(name)}: missing; remove {place.where(FOLDER)}, and run the same command again.")
    return path
