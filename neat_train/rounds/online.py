"""Online rounds: sample with the policy in training, score, keep, train on it (NEAT Algorithm 1).

At the step where a block begins its queries are sampled under the round's prompts with the policy as it is, and scored
against the plain queries, by the functions that `neat-data expand` runs. What was sampled is on the disk before
it is scored, and what was scored before it is trained on, each with a hash of the policy: a run that was killed and
goes on from its newest checkpoint comes to the same policies, and samples nothing twice. Behind each checkpoint the
blocks so far become one round of the dataset. All ranks see one run folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neat_data.errors import InputError, RunError
from neat_data.models.reward_model import RewardModel
from neat_data.models.sampler import Sampling
from neat_data.progress import Watcher, say
from neat_data.prompts.sets import load_prompts
from neat_data.record import Record, canonical_json, ranked
from neat_data.rounds.candidates import Rules
from neat_data.rounds.sampling import Draws
from neat_data.store.atomic import full_disk_explained, remove_leftovers, write_atomically
from neat_data.store.dataset import PreferenceDataset
from neat_train.config.settings import FitSettings, RoundSettings
from neat_train.data.records import Records
from neat_train.distributed import Ranks
from neat_train.policy.policy import Policy
from neat_train.rounds import block_files
from neat_train.rounds.block_files import BlockFiles
from neat_train.rounds.fold import Rounds, blocks_of
from neat_train.rounds.load import live
from neat_train.rounds.make_block import Maker, figures, parts_of
from neat_train.rounds.run_dataset import make_view
from neat_train.rounds.sampled import Sampled, kept
from neat_train.rounds.schedule import Blocks
from neat_train.training.progress import TRAINING

DATASET = "dataset"  # the run's own
_BEGUN = "begun.json"


class OnlineRounds:
    """See `neat_train.data.record_source.RecordSource`; `online_rounds` makes one."""

    def __init__(
        self,
        records: Records,
        blocks: Blocks,
        rounds: Rounds,
        maker: Maker,
        policy: Policy,
        settings: RoundSettings,
        ranks: Ranks,
    ) -> None:
        self._records, self._blocks, self._rounds, self._maker = records, blocks, rounds, maker
        self._policy, self._keep, self._ranks = policy, settings.keep, ranks
        self._files, self._watch = maker.files, maker.watch
        self._fingerprint = hashlib.sha256(canonical_json(rounds.settings).encode()).hexdigest()
        self._folded, self._open = Sampled(), Sampled()
        self._known: set[int] = set()  # rounds that `_folded` has
        self._round: int | None = None  # of what is sampled now; None before the first step
        self._figures: dict[str, float] = {}
        self._warned = False

    def step(self, step: int) -> list[Record]:
        """This rank's records of a step with the responses that training uses; a block that begins is sampled.

        Raises:
            RunError: out of memory even with a small token budget, a full disk, a reward that is not finite.
        """
        self._take_up(step)
        for number in self._blocks.starting(step):
            self._ensure(number)
        self._watch.phase(TRAINING, None)
        return [self._trained(query) for query in self._blocks.trained_at(step)[self._ranks.rank :: self._ranks.world]]

    def saved(self, step: int) -> None:
        """Fold what was sampled before `step` into one round of the dataset; again and again with the same end.

        Raises:
            InputError: another process writes to the dataset.
            RunError: a full disk, which loses nothing.
        """
        self._take_up(step)
        self._fold(step)

    def metrics(self) -> dict[str, float]:
        """What the last block measured, see `make_block`; empty where there was none since the last call."""
        figures, self._figures = self._figures, {}
        return figures

    def _take_up(self, step: int) -> None:
        """Before the first step: bring the dataset to where it was behind the checkpoint of this step."""
        if self._round is not None:
            return
        begun = self._blocks.before(step)
        if self._ranks.main and (removed := self._rounds.forget_from(begun)):
            which = ", ".join(map(str, sorted(removed)))
            self._watch.say(f"sampled after the checkpoint that the run goes on from, and made again: round {which}")
        self._ranks.barrier()
        self._fold(step)
        there = {number for round in self._rounds.finished() for number in blocks_of(round)}
        lost = next((n for n in range(begun) if n not in there and self._blocks.queries_of(n)), None)
        if lost is not None:
            raise RunError(
                f"{self._files.folder}: the samples of block {lost} are gone, which was sampled before the checkpoint "
                "that the run goes on from.\nBegin anew in another folder."
            )

    def _fold(self, step: int) -> None:
        """Make a round of the blocks that began before `step`, and look their responses up there from now on."""
        begun = [number for number in self._files.blocks() if number < self._blocks.before(step)]
        self._ranks.barrier()  # every rank has looked
        if begun and self._ranks.main:
            self._watch.phase("writing the round", None)
            self._rounds.fold({number: self._files.block(number) for number in begun})
            self._files.remove(begun)
        self._ranks.barrier()
        self._open = Sampled()
        for round in self._rounds.finished():
            if round.round not in self._known:
                seeds = {
                    seed: n for n in blocks_of(round) for seed in self._rounds.seeds(n, self._blocks.queries_of(n))
                }
                for table in self._rounds.tables(round):
                    self._folded.add_shard(table, seeds)
                self._known.add(round.round)
        self._round = self._rounds.next_round()

    def _ensure(self, number: int) -> None:
        """Have a block: the one that lies there, if it was sampled by the policy of today, or a new one."""
        queries = self._blocks.queries_of(number)
        if not queries:
            return
        hashes = self._ranks.gather(self._policy.trained_hash() if self._ranks.main else "")
        identity = {
            "block": number,
            "policy": hashes[0],
            "fingerprint": self._fingerprint,
            "queries": hashlib.sha256(" ".join(queries).encode()).hexdigest(),
        }
        if self._ranks.main and self._files.drop_stale(number, identity):
            self._watch.say(f"block {number} was sampled by another policy or with other settings, and is made again")
        there = self._ranks.gather(self._ranks.main and self._files.has_block(number))[0]
        seconds = {} if there else self._make(number, queries, identity)
        if self._ranks.main:
            self._files.remove_parts(number)  # also those of a run that was killed before it came to that
        table, _ = self._files.block(number)
        self._open.add_block(number, table)
        self._figures = figures(table, seconds)
        self._warn_of_few(self._figures)

    def _warn_of_few(self, figures: dict[str, float]) -> None:
        """Say once that most samples are lost because they did not end."""
        share = figures.get("round/finished", 1.0)
        if self._ranks.main and not self._warned and share < 0.5 and "unfinished" in self._maker.rules.drop:
            self._warned = True
            self._watch.say(
                f"only {100 * share:.0f} % of the samples ended within their tokens, and the others are not used: "
                "raise max_response, or say rounds.drop=[]"
            )

    def _make(self, number: int, queries: Sequence[str], identity: dict[str, Any]) -> dict[str, float]:
        """Sample and score this rank's share, and have the main rank put the whole block together."""
        assert self._round is not None
        rank, world = self._ranks.rank, self._ranks.world
        own = {**identity, "world": world}
        parts = parts_of(number, rank, self._blocks.queries_of(number, rank, world))
        seconds = self._maker.make(parts, own, (self._rounds.number(number), self._round), self._record)
        self._ranks.barrier()
        if self._ranks.main:
            shares = [parts_of(number, r, self._blocks.queries_of(number, r, world)) for r in range(world)]
            scored = [self._files.scored(part) for share in shares for part, _ in share]
            usage = _sums([metadata["usage"] for _, metadata in scored])
            table = _in_order_of(queries, pa.concat_tables([table for table, _ in scored]))
            self._files.put_block(number, table, {**identity, "usage": usage})
        self._ranks.barrier()
        return seconds

    def _trained(self, query: str) -> Record:
        """A query's record with the responses that training uses."""
        blocks = {response.response_id: block for block, response in self._sampled(query)}
        record = self._record(query)
        responses = kept(
            record.responses,
            self._keep,
            lambda r: (1, blocks[r.response_id]) if r.response_id in blocks else (0, r.round),
        )
        return replace(record, responses=responses)

    def _record(self, query: str) -> Record:
        """A query's record with all responses so far."""
        record = self._records[query]
        begun_with = [response for response in record.responses if response.round < self._rounds.first]
        return replace(record, responses=ranked([*begun_with, *(response for _, response in self._sampled(query))]))

    def _sampled(self, query: str) -> list[Any]:
        return [*self._folded.of(query), *self._open.of(query)]


def online_rounds(
    settings: FitSettings,
    records: Records,
    policy: Policy,
    reward: RewardModel,
    ranks: Ranks,
    run: Path,
    fingerprint: str,
    watch: Watcher,
    steps: int | None = None,
) -> OnlineRounds:
    """The rounds of a run.

    Args:
        records: those that are trained on, of the dataset that the run began with.
        reward: as `placement.load_reward` gives it.
        run: the run's folder.
        fingerprint: of the run, for its dataset's settings.
        steps: optimiser steps of the whole run.

    Raises:
        InputError: bad prompts or rules, a dataset that cannot be added to.
    """
    wanted = settings.rounds
    assert wanted.prompts is not None
    sampling = Sampling(wanted.temperature, wanted.top_p, wanted.max_new_tokens or settings.max_response)
    draws = Draws(load_prompts(wanted.prompts), sampling, wanted.samples, settings.seed)
    rules = Rules(wanted.min_tokens, tuple(sorted(set(wanted.drop))), wanted.keep_where)
    blocks = Blocks.of(records.ids, settings.records_per_step, settings.seed, wanted.queries, wanted.every, steps)
    files = BlockFiles(run / block_files.FOLDER)
    target = _grown(records.dataset, run, wanted, files, ranks)
    maker = Maker(
        files, live(policy, settings, files.folder, ranks), reward, draws, rules, records.dataset.dropped, watch
    )
    say(watch, maker.live.notes)
    of_rounds = {
        "run": fingerprint,
        **draws.to_dict(),
        "policy": maker.live.settings,
        "rules": asdict(rules),
        "reward_model": reward.settings,
    }
    first = ranks.gather(_first(target, files.folder) if ranks.main else 0)[0]
    rounds = Rounds(target, of_rounds, draws, rules, first, records)
    return OnlineRounds(records, blocks, rounds, maker, policy, wanted, ranks)


def _grown(base: PreferenceDataset, run: Path, wanted: RoundSettings, files: BlockFiles, ranks: Ranks) -> Path:
    """The dataset that the samples join: the run's own, made where it is not there yet, or the one it began with."""
    place = Path(base.path) if wanted.into == "dataset" else run / DATASET
    if ranks.main:
        with full_disk_explained(files.folder):
            files.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(files.folder)
        if wanted.into == "run":
            make_view(base, place)
    ranks.barrier()
    if not place.is_dir():
        raise InputError(f"{base.path}: online rounds grow a local dataset. Download the folder, and train on that.")
    return place


def _first(target: Path, folder: Path) -> int:
    """The number of the run's first round, noted when the run begins: others may be appended meanwhile."""
    note = folder / _BEGUN
    if not note.exists():
        content = canonical_json({"first": PreferenceDataset.open(target).manifest.next_round}).encode()
        write_atomically(note, lambda file: file.write(content))
    return json.loads(note.read_bytes())["first"]


def _in_order_of(queries: Sequence[str], table: pa.Table) -> pa.Table:
    """The rows by their query's place, whoever sampled them."""
    places = pc.index_in(table["query_id"], value_set=pa.array(queries)).to_numpy()
    return table.take(pa.array(np.argsort(places, kind="stable")))


def _sums(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {key: sum(count[key] for count in counts) for key in counts[0]}
