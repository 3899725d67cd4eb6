"""The next block, sampled and scored in a process of its own while this one trains.

The process loads policy and reward model once. For each block it is handed the weights of the moment, as a file that
stays until the block is used: a run that was killed hands over the same ones again and comes to the same samples. So
a response is one block older than in turn; the objective takes rewards as they are and needs no importance ratio.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from neat_data.errors import NeatError, RunError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec
from neat_data.progress import Silent
from neat_data.record import Record
from neat_data.rounds.candidates import Rules
from neat_data.rounds.sampling import Draws
from neat_data.scoring.workers import follow_parent
from neat_data.store.atomic import write_atomically
from neat_train.config.settings import FitSettings
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train
from neat_train.rounds.block_files import BlockFiles, Part
from neat_train.rounds.live_sampler import LiveModel
from neat_train.rounds.make_block import Maker
from neat_train.rounds.served import ServedCheck

_BEAT = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Weights that a block is sampled with.

    Attributes:
        policy: their hash.
        step: optimiser steps that they have seen.
        round: that the samples say they are of.
    """

    policy: str
    step: int
    round: int


@dataclass(frozen=True, slots=True)
class Job:
    """A block to make; the attributes are the arguments of `Maker.make`, `records` those of its queries.

    Attributes:
        weights: the file that was handed over.
    """

    parts: Sequence[tuple[Part, Sequence[str]]]
    identity: dict[str, Any]
    numbers: tuple[int, int]
    records: dict[str, Record]
    weights: Path


@dataclass(frozen=True, slots=True)
class AheadSpec:
    """All that the process needs; picklable."""

    settings: FitSettings
    policy: PolicySpec
    reward: RewardModelSpec
    files: BlockFiles
    draws: Draws
    rules: Rules
    gone: frozenset[str]
    max_length: int
    threads: int


class Ahead:
    """The process; it starts with the first job, and ends with this one."""

    def __init__(self, spec: AheadSpec) -> None:
        self.spec = spec
        self.making: int | None = None  # the number of the block that is under way
        self._process: Any = None
        self._here: Connection | None = None

    def hand_over(self, block: int, policy: Policy, handed: HandedOver) -> None:
        """Write the policy's trained weights for a block."""
        weights = dict(policy.model.named_parameters())
        content = save(
            {name: weights[name].detach().cpu().contiguous() for name in policy.trained},
            {"policy": handed.policy, "step": str(handed.step), "round": str(handed.round)},
        )
        write_atomically(self.weights(block), lambda file: file.write(content))

    def handed_over(self, block: int) -> HandedOver | None:
        """What was handed over for a block; None where nothing was."""
        if not self.weights(block).is_file():
            return None
        with safe_open(self.weights(block), framework="pt") as file:
            about = file.metadata()
        return HandedOver(about["policy"], int(about["step"]), int(about["round"]))

    def weights(self, block: int) -> Path:
        """Where a block's weights lie."""
        return self.spec.files.folder / f"ahead-{block:05d}.safetensors"

    def forget_before(self, block: int) -> None:
        """Remove the weights of earlier blocks."""
        for path in self.spec.files.folder.glob("ahead-*.safetensors"):
            if path < self.weights(block):
                path.unlink()

    def begin(self, block: int, job: Job) -> None:
        """Let the process make a block; returns at once."""
        if self._here is None:
            context = multiprocessing.get_context("spawn")
            self._here, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(there, self.spec), daemon=True)
            self._process.start()
            there.close()
        try:
            self._here.send(job)
        except ConnectionError as error:
            raise self._ended() from error
        self.making = block

    def wait(self) -> dict[str, float]:
        """The figures of the block that is under way, once its parts are committed.

        Raises:
            NeatError: what went wrong there.
        """
        assert self._here is not None
        self.making = None
        try:
            while not self._here.poll(_BEAT):  # a wait without an end would not hear Ctrl-C behind polars' handler
                pass
            answer = self._here.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if isinstance(answer, NeatError):
            raise answer
        return answer

    def _ended(self) -> RunError:
        self._process.join()
        return RunError(
            f"the process that samples ahead ended with status {self._process.exitcode}; run the same command again, "
            "or say rounds.ahead=0"
        )

    def close(self) -> None:
        """End the process."""
        if self._here is not None:
            self._here.close()
            self._process.terminate()
            self._process.join()
            self._here = None


def _serve(connection: Connection, spec: AheadSpec) -> None:
    """Make one block after the other until nobody asks any more."""
    follow_parent()
    torch.set_num_threads(spec.threads)
    maker: tuple[Policy, Maker] | None = None
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            maker = maker or _loaded(spec)
            answer: Any = _made(*maker, job)
        except NeatError as error:
            answer = error
        connection.send(answer)


def _loaded(spec: AheadSpec) -> tuple[Policy, Maker]:
    policy = load_policy_to_train(replace(spec.policy, keep_reference=False))
    reward = load_reward_model(spec.reward)
    budget = spec.settings.token_budget or spec.max_length
    served = ServedCheck(policy, spec.max_length, budget, spec.settings.rounds.logp_limit)
    live = LiveModel(policy, spec.settings)
    return policy, Maker(spec.files, live, reward, spec.draws, spec.rules, spec.gone, Silent(), served)


def _made(policy: Policy, maker: Maker, job: Job) -> dict[str, float]:
    policy.put_trained(load_file(job.weights))
    if policy.trained_hash() != job.identity["policy"]:
        raise RunError(f"{job.weights}: holds other weights than were handed over; run the same command again")
    return maker.make(job.parts, job.identity, job.numbers, job.records.__getitem__)
