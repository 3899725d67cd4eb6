"""What a reward model is to the rest of the project; `neat_data.models.load` opens one.

A back end takes queries with their responses and gives one raw logit a response. It knows nothing of shards, records
or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from neat_data.options.groups import RewardLoading
from neat_data.record import Messages
from neat_data.store.documents import Arguments, Settings


@dataclass(frozen=True, slots=True)
class Task:
    """One query and the responses to be scored against it."""

    messages: Messages
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to a `Task`.

    Attributes:
        rewards: raw logits, one a response; None where the response was refused.
        refused: a reason code for each response that was refused, else None: `response_too_long`, `query_too_long` (its
            last turn alone exceeds its share of the length), `template_refused` (the chat template raised),
            `judge_unreadable` (a judge's answer is no score), `server_refused` (the server does not take it),
            `no_answer` (its thought never ends, or nothing follows it).
        turns_cut: whole turns that the query lost so as to fit the model's length.
        tokens: tokens of the separate sequences, as a plain loop would have run them (k times the query).
        tokens_run: tokens that went through the model (less where responses share their query).
        details: for each response what its refusal says in words, the template's sentence or the judge's answer, None
            where there is nothing to add; () where no response has any.
    """

    rewards: tuple[float | None, ...]
    refused: tuple[str | None, ...]
    turns_cut: int = 0
    tokens: int = 0
    tokens_run: int = 0
    details: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class RewardModelSpec(RewardLoading):
    """What loads a reward model; picklable, so that a worker process can load the same one.

    Attributes:
        model: folder, hub id (`ID@REV`), `file.py:function`, `http(s)://…`, `judge:MODEL` or `implicit:RUN`; `backend`
            `auto` goes by this form.
        template_args, model_args: handed to the chat template, and to the back end.
        base: where `model` is an adapter that says no more of its base model than a folder, that model.
        lengths_inherited: the lengths are those of a dataset's own model, and not the user's word: what makes tokens of
            its own leaves them out.
    """

    model: str
    template_args: Arguments = field(default_factory=dict, kw_only=True)
    model_args: Arguments = field(default_factory=dict, kw_only=True)
    base: str | None = field(default=None, kw_only=True)
    lengths_inherited: bool = field(default=False, kw_only=True)


class RewardModel(Protocol):
    """A back end that scores.

    Attributes:
        spec: the spec with everything that was `auto` or None resolved, for loading the same model in another process.
        settings: JSON-able; every resolved setting that can change a byte of the output (weights hash, template hash,
            dtype, lengths, token budget, path, attention, kind of device). No paths, no time, no machine.
        notes: lines worth printing once: which path was chosen and why, which device, which dtype.
        not_taken: settings of requests that a server refused so far, so that it was asked without.
    """

    spec: RewardModelSpec
    settings: Settings
    notes: list[str]

    @property
    def not_taken(self) -> tuple[str, ...]: ...

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """Score every task; the result is in the order of `tasks` and independent of how they were batched.

        Args:
            tasks: the queries of one shard.
            token_budget: overrides the spec's, when a shard is made again after running out of memory.
            advance: called with (tasks done, tokens run) since the last call.

        Raises:
            OutOfMemory: a pack of this budget does not fit; scoring again with a smaller budget may.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory; it is of no use afterwards."""
        ...
