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
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from neat_data.errors import InputError, RunError
from neat_data.models.reward_model import RewardModel
from neat_data.models.sampler import Sampling
from neat_data.progress import Watcher, say
from neat_data.prompts.sets import load_prompts
from neat_data.record import Record, canonical_json, ranked
from neat_data.rounds.candidates import Rules
from neat_data.rounds.sampling import Draws
from neat_data.store.atomic import full_disk_explained, remove_leftovers, write_atomically
from neat_data.store.claim import readable
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import Settings
from neat_train.config.settings import FitSettings, RoundSettings
from neat_train.data.records import Records
from neat_train.distributed import Ranks
from neat_train.policy.policy import Policy
from neat_train.rounds import block_files
from neat_train.rounds.ahead import Ahead, AheadSpec, HandedOver, Job
from neat_train.rounds.block_files import BlockFiles
from neat_train.rounds.fold import Rounds, blocks_of
from neat_train.rounds.live_sampler import live_spec
from neat_train.rounds.load import live
from neat_train.rounds.make_block import Maker, figures, parts_of
from neat_train.rounds.run_dataset import make_view
from neat_train.rounds.sampled import Sampled, kept
from neat_train.rounds.schedule import Blocks
from neat_train.rounds.served import ServedCheck
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
        ahead: Ahead | None = None,
    ) -> None:
        self._ahead = ahead
        self._records, self._blocks, self._rounds, self._maker = records, blocks, rounds, maker
        self._policy, self._keep, self._ranks = policy, settings.keep, ranks
        self._files, self._watch = maker.files, maker.watch
        self._fingerprint = hashlib.sha256(canonical_json(rounds.settings).encode()).hexdigest()
        self._folded, self._open = Sampled(), Sampled()
        self._known: set[int] = set()  # rounds that `_folded` has
        self._round: int | None = None  # of what is sampled now; None before the first step
        self._figures: dict[str, float] = {}
        self._ages: list[int] = []
        self._warned = False

    def step(self, step: int) -> list[Record]:
        """This rank's records of a step with the responses that training uses; a block that begins is sampled.

        Raises:
            RunError: out of memory even with a small token budget, a full disk, a reward that is not finite.
        """
        self._take_up(step)
        for number in self._blocks.starting(step):
            self._ensure(number)
            self._sample_ahead(number + 1, step)
        self._watch.phase(TRAINING, None)
        queries = self._blocks.trained_at(step)[self._ranks.rank :: self._ranks.world]
        return [self._trained(query, step) for query in queries]

    def saved(self, step: int) -> None:
        """Fold what was sampled before `step` into one round of the dataset; again and again with the same end.

        Raises:
            InputError: another process writes to the dataset.
            RunError: a full disk, which loses nothing.
        """
        self._take_up(step)
        self._fold(step)

    def metrics(self) -> dict[str, float]:
        """What the last block measured, see `make_block`, and the staleness of the samples since the last call.

        `round/staleness` is the mean number of optimiser steps between the weights that drew a sample and those that
        are trained on it, `round/staleness_max` the largest. A block's figures come once.
        """
        figures, self._figures = self._figures, {}
        ages, self._ages = self._ages, []
        staleness = {"round/staleness": fmean(ages), "round/staleness_max": float(max(ages))} if ages else {}
        return {**figures, **staleness}

    def close(self) -> None:
        """See `RecordSource.close`."""
        if self._ahead is not None:
            self._ahead.close()

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
        if self._ahead and (handed := self._ahead.handed_over(begun)):
            self._under_way(begun, handed)

    def _fold(self, step: int) -> None:
        """Make a round of the blocks that began before `step`, and look their responses up there from now on."""
        begun = [number for number in self._files.blocks() if number < self._blocks.before(step)]
        self._ranks.barrier()  # every rank has looked
        if begun and self._ranks.main:
            self._watch.phase("writing the round", None)
            self._rounds.fold({number: self._files.block(number) for number in begun})
            self._files.remove(begun)
        if self._ahead is not None:
            self._ahead.forget_before(self._blocks.before(step))
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
        """Have a block: the one that lies there, if it was sampled by the right policy, or a new one.

        That is the policy of now, or the one that was handed over for it.
        """
        queries = self._blocks.queries_of(number)
        if not queries:
            return
        handed = self._ahead.handed_over(number) if self._ahead else None
        if handed is not None:
            self._under_way(number, handed)
        identity = self._identity(number, handed.policy if handed else self._hash(), handed)
        if self._ranks.main and self._files.drop_stale(number, identity):
            self._watch.say(f"block {number} was sampled by another policy or with other settings, and is made again")
        there = self._ranks.gather(self._ranks.main and self._files.has_block(number))[0]
        measured = {} if there else self._make(number, queries, identity)
        if self._ranks.main:
            self._files.remove_parts(number)  # also those of a run that was killed before it came to that
        table, _ = self._files.block(number)
        self._open.add_block(number, table)
        self._figures = figures(table, measured)
        self._warn_of_few(self._figures)

    def _hash(self) -> str:
        return self._ranks.gather(self._policy.trained_hash() if self._ranks.main else "")[0]

    def _identity(self, number: int, policy: str, handed: HandedOver | None) -> dict[str, Any]:
        """What the files of a block are made with."""
        return {
            "block": number,
            "policy": policy,
            "fingerprint": self._fingerprint,
            "queries": hashlib.sha256(" ".join(self._blocks.queries_of(number)).encode()).hexdigest(),
            **({"sampled_at": handed.step} if handed else {}),
        }

    def _sample_ahead(self, number: int, step: int) -> None:
        """Hand over the policy of now for a block that begins later, and have it made meanwhile."""
        if self._ahead is None or not self._blocks.queries_of(number):
            return
        assert self._round is not None
        handed = HandedOver(self._hash(), step, self._round)
        if self._ahead.handed_over(number) != handed:
            self._ahead.hand_over(number, self._policy, handed)
        self._under_way(number, handed)

    def _under_way(self, number: int, handed: HandedOver) -> None:
        """Have the process make a block, unless it does, or it lies there."""
        assert self._ahead is not None
        identity = self._identity(number, handed.policy, handed)
        self._files.drop_stale(number, identity)
        if self._ahead.making == number or self._files.has_block(number):
            return
        own, queries = {**identity, "world": 1}, self._blocks.queries_of(number)
        numbers = (self._rounds.number(number), handed.round)
        records = {query: self._record(query) for query in queries}
        job = Job(parts_of(number, 0, queries), own, numbers, records, self._ahead.weights(number))
        self._ahead.begin(number, job)

    def _warn_of_few(self, figures: dict[str, float]) -> None:
        """Say once that most samples are lost because they did not end."""
        share = figures.get("round/finished", 1.0)
        if self._ranks.main and not self._warned and share < 0.5 and "unfinished" in self._maker.rules.drop:
            self._warned = True
            self._watch.say(
                f"only {100 * share:.0f} % of the samples ended within their tokens, and the others are not used: "
                "raise max_response, or say rounds.drop=[]"
            )

    def _make(self, number: int, queries: Sequence[str], identity: Settings) -> dict[str, float]:
        """Sample and score this rank's share, and have the main rank put the whole block together."""
        assert self._round is not None
        rank, world = self._ranks.rank, self._ranks.world
        own = {**identity, "world": world}
        parts = parts_of(number, rank, self._blocks.queries_of(number, rank, world))
        if self._ahead is not None and self._ahead.making == number:
            self._watch.phase("waiting for the block that is sampled ahead", None)
            measured = self._ahead.wait()
        else:
            measured = self._maker.make(parts, own, (self._rounds.number(number), self._round), self._record)
        self._ranks.barrier()
        if self._ranks.main:
            shares = [parts_of(number, r, self._blocks.queries_of(number, r, world)) for r in range(world)]
            scored = [self._files.scored(part) for share in shares for part, _ in share]
            usage = _sums([metadata["usage"] for _, metadata in scored])
            table = _in_order_of(queries, pa.concat_tables([table for table, _ in scored]))
            self._files.put_block(number, table, {**identity, "usage": usage})
        self._ranks.barrier()
        return measured

    def _trained(self, query: str, step: int) -> Record:
        """A query's record with the responses that training uses; counts how old those that were sampled are."""
        blocks = {response.response_id: block for block, response in self._sampled(query)}
        record = self._record(query)
        responses = kept(
            record.responses,
            self._keep,
            lambda r: (1, blocks[r.response_id]) if r.response_id in blocks else (0, r.round),
        )
        self._ages += [self._age(blocks[r.response_id], step) for r in responses if r.response_id in blocks]
        return replace(record, responses=responses)

    def _age(self, block: int, step: int) -> int:
        """Optimiser steps between the weights that sampled a block and those that are trained on it."""
        return step - self._blocks.start_of(max(0, block - 1) if self._ahead else block)

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
    sampler = live(policy, settings, files.folder, ranks)
    max_length = live_spec(policy, settings).max_length or settings.max_length
    served = ServedCheck(policy, max_length, settings.token_budget or max_length, wanted.logp_limit)
    maker = Maker(files, sampler, reward, draws, rules, records.dataset.dropped, watch, served)
    say(watch, maker.live.notes)
    of_rounds = {
        "run": fingerprint,
        **draws.to_dict(),
        "policy": maker.live.settings,
        "rules": asdict(rules),
        "reward_model": reward.settings,
        **({"ahead": 1} if wanted.ahead else {}),
    }
    first = ranks.gather(_first(target, files.folder) if ranks.main else 0)[0]
    rounds = Rounds(target, of_rounds, draws, rules, first, records)
    ahead = _ahead(settings, maker, policy, max_length, ranks) if wanted.ahead else None
    return OnlineRounds(records, blocks, rounds, maker, policy, wanted, ranks, ahead)


def _ahead(settings: FitSettings, maker: Maker, policy: Policy, max_length: int, ranks: Ranks) -> Ahead:
    if ranks.world > 1:
        raise InputError(
            "rounds.ahead 1: goes with one process that trains", advice="leave out {nproc}, or say rounds.ahead=0"
        )
    device = settings.rounds.ahead_device
    spec, reward = policy.spec, maker.reward.spec
    return Ahead(
        AheadSpec(
            settings,
            spec if device is None else replace(spec, device=device),
            reward if device is None else replace(reward, device=device),
            maker.files,
            maker.draws,
            maker.rules,
            maker.gone,
            max_length,
            torch.get_num_threads(),
        )
    )


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
    with readable(note):
        return int(json.loads(note.read_bytes())["first"])


def _in_order_of(queries: Sequence[str], table: pa.Table) -> pa.Table:
    """The rows by their query's place, whoever sampled them."""
    places = pc.index_in(table["query_id"], value_set=pa.array(queries)).to_numpy()
    return table.take(pa.array(np.argsort(places, kind="stable")))


def _sums(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {key: sum(count[key] for count in counts) for key in counts[0]}
