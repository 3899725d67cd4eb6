"""Where the candidates of an unfinished round lie: a hidden folder of the dataset, a shard of them a base shard.

A staged shard is committed like any other, so a run that was killed while sampling goes on with the next shard, and the
policy need not be in memory any more when the reward model is loaded. The folder goes when its round is finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.record import canonical_json
from neat_data.rounds.candidates import Candidate, from_table, to_table
from neat_data.store.atomic import full_disk_explained, write_atomically
from neat_data.store.claim import changes, read, readable
from neat_data.store.documents import Metadata, Settings
from neat_data.store.shard import read_shard, shard_metadata, write_shard

FOLDER = ".round"
_STAGED = "round.json"


@dataclass(frozen=True)
class Staging:
    """The staging folder of a dataset.

    Attributes:
        path: `.round` inside the dataset's folder.
        round: the number that the candidates' round will have.
        kind, settings: what they are made with.
        queries: ids of the queries that take part, by number of the base shard.
    """

    path: Path
    round: int
    kind: str
    settings: Settings
    queries: dict[int, list[str]]

    @classmethod
    def begin(cls, root: Path, round: int, kind: str, settings: Settings, queries: dict[int, list[str]]) -> Staging:
        """Make the folder. `queries` are chosen once: what `--where` sees changes while the round is written."""
        path = root / FOLDER
        shutil.rmtree(path, ignore_errors=True)
        with full_disk_explained(path):
            path.mkdir()
        numbers = [number for number, ids in queries.items() for _ in ids]
        ids = [query for ids in queries.values() for query in ids]
        write_shard(path / "queries.arrow", pa.table({"number": pa.array(numbers, pa.int64()), "query_id": ids}), {})
        content = {"round": round, "kind": kind, "settings": settings, "shards": sorted(queries)}
        write_atomically(path / _STAGED, lambda file: file.write(canonical_json(content).encode()))
        return cls(path, round, kind, settings, queries)

    @classmethod
    def found(cls, root: Path) -> Staging | None:
        """What lies in `root`, None where nothing does; InputError where that cannot be read."""
        path = root / FOLDER
        content = read(path / _STAGED)
        if content is None:
            return None
        with readable(path / _STAGED):
            queries: dict[int, list[str]] = {number: [] for number in content.pop("shards")}
            for row in read_shard(path / "queries.arrow").to_pylist():
                queries[row["number"]].append(row["query_id"])
            return cls(path, **content, queries=queries)

    def require(self, kind: str, settings: Settings) -> Staging:
        """Itself, where it was begun with these settings; else InputError says what differs."""
        if changed := changes({"kind": self.kind, **self.settings}, {"kind": kind, **settings}):
            raise InputError(
                f"{self.path.parent}: round {self.round} is not finished and was begun with other settings "
                f"({changed}).\nFinish it with its own settings, or remove it: "
                f"neat-data rounds {self.path.parent} --drop-round {self.round}"
            )
        return self

    def done(self) -> set[int]:
        """Numbers of the base shards whose candidates are all there."""
        return {number for number in self.queries if self._shard(number).exists()}

    def commit(self, number: int, candidates: Sequence[Candidate], metadata: Metadata) -> None:
        """Store the candidates of one base shard."""
        write_shard(self._shard(number), to_table(candidates), metadata)

    def candidates(self, number: int) -> tuple[list[Candidate], Metadata]:
        """The candidates of one base shard, and the metadata that they were stored with."""
        path = self._shard(number)
        return from_table(read_shard(path)), shard_metadata(path)

    def remove(self) -> None:
        """Delete the folder; `round.json` first, so that a kill in between leaves nothing that looks whole."""
        (self.path / _STAGED).unlink()
        shutil.rmtree(self.path)

    def _shard(self, number: int) -> Path:
        return self.path / f"{number:05d}.arrow"
