"""The blocks of a run on disk, from their sampling until a checkpoint makes them a round of the dataset.

`00007.0.003.samples.arrow` holds the candidates of part 3 of rank 0's share of block 7, `….scored.arrow` the same with
what became of them, and `00007.arrow` the whole block, put together by the main rank. Each is written atomically and
says in its metadata what it was made with; one that was made with something else counts as absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from neat_data.rounds import candidates as stored
from neat_data.rounds.candidates import Candidate
from neat_data.rounds.outcomes import Outcome
from neat_data.store.documents import Metadata, Settings
from neat_data.store.shard import read_shard, shard_metadata, write_shard

FOLDER = "online"
SCHEMA = pa.schema([*stored.SCHEMA, ("reward", pa.float32()), ("dropped", pa.string()), ("worst", pa.float32())])


@dataclass(frozen=True, slots=True)
class ScoredBlock:
    """Candidates, what became of each, and the lowest reward that each one's record had before (None: it had none)."""

    candidates: list[Candidate]
    outcomes: list[Outcome]
    worst: list[float | None]

    def to_table(self) -> pa.Table:
        """One row a candidate."""
        table = stored.to_table(self.candidates)
        columns = [
            pa.array([outcome.reward for outcome in self.outcomes], pa.float32()),
            pa.array([outcome.dropped for outcome in self.outcomes], pa.string()),
            pa.array(self.worst, pa.float32()),
        ]
        return pa.table([*table.columns, *columns], schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> ScoredBlock:
        """The inverse of `to_table`."""
        rewards, dropped, worst = (table[name].to_pylist() for name in ("reward", "dropped", "worst"))
        outcomes = [Outcome(*pair) for pair in zip(rewards, dropped, strict=True)]
        return cls(stored.from_table(table.select(stored.SCHEMA.names)), outcomes, worst)

    def only(self, these: Sequence[int]) -> ScoredBlock:
        """Those at these places, in this order."""
        candidates, outcomes = [self.candidates[index] for index in these], [self.outcomes[index] for index in these]
        return ScoredBlock(candidates, outcomes, [self.worst[index] for index in these])

    def of_round(self, round: int) -> ScoredBlock:
        """The same, as candidates of `round`."""
        moved = [replace(candidate, response=replace(candidate.response, round=round)) for candidate in self.candidates]
        return replace(self, candidates=moved)


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a block that is sampled, and scored, at once."""

    block: int
    rank: int
    number: int


@dataclass(frozen=True, slots=True)
class BlockFiles:
    """The folder of a run's blocks."""

    folder: Path

    def samples(self, part: Part, identity: Settings) -> tuple[list[Candidate], Metadata] | None:
        """The candidates of a part and their metadata; None where there are none of this identity."""
        path = self._part(part, "samples")
        metadata = _metadata(path, identity)
        return None if metadata is None else (stored.from_table(read_shard(path)), metadata)

    def put_samples(self, part: Part, candidates: Sequence[Candidate], metadata: Metadata) -> None:
        """Commit the candidates of a part."""
        write_shard(self._part(part, "samples"), stored.to_table(candidates), metadata)

    def has_scored(self, part: Part, identity: Settings) -> bool:
        """Whether a part was scored."""
        return _metadata(self._part(part, "scored"), identity) is not None

    def scored(self, part: Part) -> tuple[pa.Table, Metadata]:
        """A part that was scored, mapped, and its metadata."""
        path = self._part(part, "scored")
        return read_shard(path), shard_metadata(path)

    def put_scored(self, part: Part, judged: ScoredBlock, metadata: Metadata) -> None:
        """Commit what became of the candidates of a part."""
        write_shard(self._part(part, "scored"), judged.to_table(), metadata)

    def has_block(self, number: int) -> bool:
        """Whether a whole block is there."""
        return self._block(number).exists()

    def block(self, number: int) -> tuple[pa.Table, Metadata]:
        """A whole block, mapped, and its metadata."""
        return read_shard(self._block(number)), shard_metadata(self._block(number))

    def put_block(self, number: int, table: pa.Table, metadata: Metadata) -> None:
        """Commit a whole block."""
        write_shard(self._block(number), table, metadata)

    def blocks(self) -> list[int]:
        """Numbers of the whole blocks."""
        names = (path.stem for path in self.folder.glob("*.arrow"))
        return sorted(int(name) for name in names if name.isdecimal())

    def drop_stale(self, number: int, identity: Settings) -> bool:
        """Delete what lies there of a block and was made with something else; says whether there was any."""
        stale = [path for path in self._all(number) if _metadata(path, identity) is None]
        for path in stale:
            path.unlink()
        return bool(stale)

    def remove(self, numbers: Sequence[int]) -> None:
        """Delete whole blocks."""
        for number in numbers:
            self._block(number).unlink(missing_ok=True)

    def remove_parts(self, number: int) -> None:
        """Delete what the ranks wrote of a block."""
        for path in set(self._all(number)) - {self._block(number)}:
            path.unlink()

    def _all(self, number: int) -> list[Path]:
        return [path for path in self.folder.glob("*.arrow") if path.name.partition(".")[0] == f"{number:05d}"]

    def _block(self, number: int) -> Path:
        return self.folder / f"{number:05d}.arrow"

    def _part(self, part: Part, kind: str) -> Path:
        return self.folder / f"{part.block:05d}.{part.rank}.{part.number:03d}.{kind}.arrow"


def _metadata(path: Path, identity: Settings) -> Metadata | None:
    """What a file says of itself, None where it is not there or says something else than `identity`."""
    if not path.exists():
        return None
    metadata = shard_metadata(path)
    return metadata if {name: metadata.get(name) for name in identity} == identity else None
