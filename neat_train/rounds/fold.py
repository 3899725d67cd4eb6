"""Blocks become a round: one of the dataset's own kind, made by the same writer as every other.

All blocks that were sampled before a checkpoint make one round, whose settings name each of them with the policy that
sampled it. A fold that was killed goes on: a block that lies in a finished round already is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from neat_data.errors import RunError
from neat_data.record import Record, to_table
from neat_data.report.card import write_card
from neat_data.rounds.candidates import Rules
from neat_data.rounds.outcomes import Tally, joined, tallies, total
from neat_data.rounds.sampling import Draws
from neat_data.store.commit import commit_shard
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import Metadata, RoundIdentity, RoundSummary, Settings, ShardMetadata
from neat_data.store.folder import DatasetFolder
from neat_data.store.manifest import Round, package_versions
from neat_data.store.shard import read_shard
from neat_train.data.records import Records
from neat_train.rounds.block_files import ScoredBlock

KIND = "online"


@dataclass(frozen=True)
class Rounds:
    """The rounds that a run adds to a dataset.

    Attributes:
        path: the dataset's folder.
        settings: of every one of them, JSON-able; with `run`, the run's fingerprint.
        draws, rules: how they are sampled and sifted.
        first: the number that the first round of the run has, and of its first block's seeds.
        records: those that are trained on, for the labels of their queries.
    """

    path: Path
    settings: Settings
    draws: Draws
    rules: Rules
    first: int
    records: Records

    def finished(self) -> list[Round]:
        """The rounds of this run that are complete."""
        return [
            round for round in PreferenceDataset.open(self.path).manifest.rounds if self._own(round) and round.complete
        ]

    def next_round(self) -> int:
        """The number that the next one will have."""
        return PreferenceDataset.open(self.path).manifest.next_round

    def tables(self, round: Round) -> Iterator[pa.Table]:
        """The shards of a round, mapped."""
        return (read_shard(self.path / entry.name) for entry in round.shards)

    def number(self, block: int) -> int:
        """What stands for the round in the seeds of a block: as if each block were a round by itself."""
        return self.first + block

    def seeds(self, block: int, queries: Sequence[str]) -> dict[int, int]:
        """The block of each seed that its samples were drawn with."""
        number = self.number(block)
        return {seed: block for query in queries for seed in self.draws.seeds(query, number)}

    def fold(self, blocks: Mapping[int, tuple[pa.Table, Metadata]]) -> None:
        """Make one round of blocks, but of those that lie in one already.

        Args:
            blocks: whole blocks with their metadata, by number.

        Raises:
            InputError: another process writes to the dataset, or began a round that it did not finish.
            RunError: the disk is full.
        """
        with DatasetFolder.claim(self.path) as folder:
            done = {
                number
                for round in folder.manifest.rounds
                if self._own(round) and round.complete
                for number in blocks_of(round)
            }
            left = {number: blocks[number] for number in sorted(blocks) if number not in done}
            if left:
                self._make(folder, left)
            write_card(folder)  # also for a fold that was killed right behind its round

    def forget_from(self, block: int) -> list[int]:
        """Remove the newest rounds of this run while all of their blocks are `block` or later; returns their numbers.

        Raises:
            RunError: a round holds earlier blocks as well, or is not the dataset's newest.
        """
        removed = []
        with DatasetFolder.claim(self.path) as folder:
            while later := [
                round for round in folder.manifest.rounds if self._own(round) and max(blocks_of(round)) >= block
            ]:
                newest = later[-1]
                if min(blocks_of(newest)) < block or newest.round != folder.manifest.newest.round:
                    raise RunError(
                        f"{self.path}: round {newest.round} was sampled after the checkpoint that the run goes on from "
                        "and cannot be removed.\nBring the later checkpoint back, or begin anew in another folder."
                    )
                folder.drop_round(newest.round)
                removed.append(newest.round)
            if removed:
                write_card(folder)
        return removed

    def _own(self, round: Round) -> bool:
        return round.kind == KIND and round.settings["run"] == self.settings["run"]

    def _make(self, folder: DatasetFolder, blocks: Mapping[int, tuple[pa.Table, Metadata]]) -> None:
        settings = {**self.settings, "blocks": [_said(number, blocks[number][1]) for number in blocks]}
        newest = folder.manifest.newest
        if self._own(newest) and not newest.complete and newest.settings["blocks"] != settings["blocks"]:
            folder.drop_round(newest.round)  # begun with blocks that were replaced since
        round = folder.begin_round(KIND, settings, versions=package_versions())
        entry = folder.manifest.round(round)
        identity: RoundIdentity = {"kind": entry.kind, "fingerprint": entry.fingerprint, "settings": entry.settings}
        compression = folder.settings.get("compression")
        done, counted = folder.done(round), []
        for shard, judged in self._by_shard([table for table, _ in blocks.values()]):
            prompts = self._tallies(judged)
            counted.append(prompts)
            if shard not in done:
                metadata: ShardMetadata = {**identity, "prompts": prompts}
                table = to_table(self._rows(judged, round))
                folder.record(round, commit_shard(self.path, round, shard, table, [], metadata, compression))
        folder.finish(round, _counts(counted, [metadata for _, metadata in blocks.values()]))

    def _by_shard(self, tables: Sequence[pa.Table]) -> Iterator[tuple[int, ScoredBlock]]:
        """The candidates by the base shard that their queries lie in, in its order."""
        whole = ScoredBlock.from_table(pa.concat_tables(tables))
        by_shard: dict[int, list[int]] = {}
        for index, candidate in enumerate(whole.candidates):
            by_shard.setdefault(self._places[candidate.query_id][0], []).append(index)
        for shard in sorted(by_shard):
            order = sorted(by_shard[shard], key=lambda index: self._places[whole.candidates[index].query_id][1])
            yield shard, whole.only(order)

    def _rows(self, judged: ScoredBlock, round: int) -> list[Record]:
        queries = list(dict.fromkeys(candidate.query_id for candidate in judged.candidates))
        return joined(judged.of_round(round).candidates, judged.outcomes, queries)

    def _tallies(self, judged: ScoredBlock) -> dict[str, Metadata]:
        records = {candidate.query_id: self.records[candidate.query_id] for candidate in judged.candidates}
        by_prompt = tallies(judged.candidates, judged.outcomes, records, self.rules)
        return {name: tally.to_dict() for name, tally in by_prompt.items()}

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """The base shard of each query, and its row there."""
        numbers = PreferenceDataset.open(self.path).manifest.round(0).numbers()
        return {
            query: (number, row)
            for number, entry in numbers.items()
            for row, query in enumerate(read_shard(self.path / entry.name)["query_id"].to_pylist())
        }


def _said(number: int, metadata: Metadata) -> list[int | str]:
    """What a round's settings say of a block: the policy that sampled it, and its step where that was ahead."""
    return [number, metadata["policy"], *([metadata["sampled_at"]] if "sampled_at" in metadata else [])]


def blocks_of(round: Round) -> list[int]:
    """Numbers of the blocks that a round holds."""
    return [said[0] for said in round.settings["blocks"]]


def _counts(prompts: Sequence[Mapping[str, Metadata]], blocks: Sequence[Metadata]) -> RoundSummary:
    """The round's summary, beyond what the store counts itself."""
    tallies: dict[str, Tally] = total(prompts)
    usage = {key: sum(block["usage"][key] for block in blocks) for key in blocks[0]["usage"]}
    asked = sum(tally.asked for tally in tallies.values())
    return {"asked": asked, "prompts": {name: tally.to_dict() for name, tally in tallies.items()}, "usage": usage}
