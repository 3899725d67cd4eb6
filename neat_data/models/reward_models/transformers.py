"""The reference back end: a transformers sequence classifier, over token trees where they are exact, else over batches.

`score` turns tasks into token sequences, packs them to the token budget within this one call, and runs pack after pack.
Rewards therefore depend on nothing but the tasks given and the settings, whichever process does the work.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from neat_data.errors import InputError
from neat_data.models.arguments import for_the_model
from neat_data.models.device import (
    device_name,
    dtype_name,
    out_of_memory_as_ours,
    release,
    resolve_device,
    resolve_dtype,
)
from neat_data.models.encode import Encoded, encode
from neat_data.models.fused_kernels import fuse_kernels, kernels_setting
from neat_data.models.out_of_memory import OutOfMemory
from neat_data.models.reward_adapter import load_reward_weights
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.templates import ChatTemplate
from neat_data.models.trees.exactness import ScoringChoice, choose_path, window
from neat_data.models.trees.forward import Head, linear_head, run_batch, run_trees
from neat_data.models.trees.packing import pack, rectangles, split
from neat_data.models.trees.tree import TokenTree, grow
from neat_data.store.documents import Settings

# Tokens in one pass. On a CPU longer rows no longer pay; accelerators want more to do at once.
CPU_BUDGET = 2_048
ACCELERATOR_BUDGET = 16_384
LONGEST = 4_096


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some responses of one task that run together: which task, which responses, their tree."""

    task: int
    responses: tuple[int, ...]
    tree: TokenTree


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """A classifier and the way it runs: token sequences in, logits out, pack after pack.

    Attributes:
        model: on its device, with the attention that is named set.
        head: its linear score head, applied in float32; None: its own forward pass gives the logits.
        path: token trees, or length-sorted padded batches.
        attention: of the model, over trees where these are taken.
        pad: the token id that batches are padded with.
    """

    model: PreTrainedModel
    head: Head | None
    path: Literal["trees", "batches"]
    attention: str
    pad: int

    def over(self, encoded: Sequence[Encoded], budget: int) -> Iterator[tuple[list[_Piece], torch.Tensor, list[int]]]:
        """Pack after pack: what ran, its logits in order  # (responses of the pack,), and the tokens of each piece.

        Raises:
            OutOfMemory: the device has no room for a pass of `budget` tokens.
        """
        trees = self.path == "trees"
        pieces = list(_tree_pieces(encoded, budget) if trees else _row_pieces(encoded))
        sizes = [piece.tree.tokens for piece in pieces]
        for chosen in pack(sizes, budget) if trees else rectangles(sizes, budget):
            together = [pieces[index] for index in chosen]
            width = max(sizes[index] for index in chosen)
            tokens = [sizes[index] if trees else width for index in chosen]
            with out_of_memory_as_ours(self.model.device, budget):
                logits = self.forward([piece.tree for piece in together]).cpu()
            yield together, logits, tokens

    def forward(self, trees: Sequence[TokenTree]) -> torch.Tensor:
        """Logits of every branch, tree by tree, in float32  # (branches,)"""
        if self.path == "trees":
            assert self.head is not None
            return run_trees(self.model, self.head, trees, self.attention)
        sequences = [[*tree.prefix, *tree.branches[0]] for tree in trees]
        return run_batch(self.model, self.head, sequences, self.pad)


class TransformersRewardModel:
    """See `neat_data.models.reward_model.RewardModel`."""

    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: RewardModelSpec) -> None:
        """Load the model, choose the path, fill in whatever `spec` leaves open; errors as `load_reward_model`."""
        self.device = resolve_device(spec.device)
        dtype = resolve_dtype(spec.dtype, self.device)
        loaded = load_reward_weights(spec, dtype)
        self.model = loaded.model
        if not hasattr(self.model, "hf_device_map"):
            nn.Module.to(self.model, self.device)
        self._fused = fuse_kernels(self.model, spec.model_args)
        self.template = ChatTemplate(loaded.tokenizer, spec.chat_template, spec.template_args)
        spec = with_lengths(spec, window(self.model, loaded.tokenizer), self.device)
        pad = loaded.tokenizer.pad_token_id or 0
        choice = choose_path(self.model, self.template, spec, pad)
        head = linear_head(self.model) if choice.linear else None
        self.passes = Passes(self.model, head, choice.path, choice.attention, pad)
        self.spec = replace(
            spec,
            model=loaded.source.reference,
            device=device_name(spec.device, self.device),
            dtype=dtype_name(dtype),
            path=choice.path,
        )
        self.spec = replace(self.spec, token_budget=self._probed_budget())
        self.settings = self._settings(loaded.source.label, loaded.identity)
        self.notes = self._notes(choice)

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """See `RewardModel.score`."""
        budget = token_budget or self.spec.token_budget
        assert budget is not None
        encoded = [self._encode(task) for task in tasks]
        rewards: list[list[float | None]] = [[None] * len(task.texts) for task in tasks]
        run = [0] * len(tasks)
        waiting = [sum(ids is not None for ids in item.sequences) for item in encoded]
        if advance is not None:
            advance(waiting.count(0), 0)
        for pieces, logits, tokens in self.passes.over(encoded, budget):
            done = 0
            values = iter(logits.tolist())
            for piece, share in zip(pieces, tokens, strict=True):
                for response in piece.responses:
                    rewards[piece.task][response] = next(values)
                run[piece.task] += share
                waiting[piece.task] -= len(piece.responses)
                done += waiting[piece.task] == 0
            if advance is not None:
                advance(done, sum(tokens))
        return [_scored(*parts) for parts in zip(encoded, rewards, run, strict=True)]

    def close(self) -> None:
        """See `RewardModel.close`."""
        del self.model, self.passes
        gc.collect()
        release()

    def _encode(self, task: Task) -> Encoded:
        assert self.spec.max_length is not None
        assert self.spec.max_response is not None
        return encode(task, self.template, self.spec.max_length, self.spec.max_response)

    def _probed_budget(self) -> int:
        """The budget, halved on an accelerator until one full pass fits; a CPU swaps instead of saying no."""
        budget, longest = self.spec.token_budget, self.spec.max_length
        assert budget is not None
        assert longest is not None
        while self.device.type != "cpu":
            sizes = [min(longest, budget)] * max(1, budget // longest)
            try:
                with out_of_memory_as_ours(self.device, budget):
                    self.passes.forward([TokenTree([0] * (size - 1), ([0],)) for size in sizes])
                break
            except OutOfMemory:
                if budget <= longest:
                    raise
                budget = max(budget // 2, longest)
        release()
        return budget

    def _settings(self, name: str, identity: dict[str, str]) -> Settings:
        spec = self.spec
        return {
            "model": name,
            **identity,
            **self.template.fingerprint,
            "backend": "transformers",
            "device": self.device.type,
            "dtype": spec.dtype,
            "max_length": spec.max_length,
            "max_response": spec.max_response,
            "token_budget": spec.token_budget,
            "path": spec.path,
            "attention": self.passes.attention,
            "head": "own" if self.passes.head is None else "float32",
            "model_args": for_the_model(spec.model_args),  # `attention` and `kernels` say what came of the rest
            **kernels_setting(self._fused),
        }

    def _notes(self, choice: ScoringChoice) -> list[str]:
        spec = self.spec
        line = f"{spec.device}, {spec.dtype}, at most {spec.max_length} tokens, {spec.token_budget} in one pass"
        return [line, *choice.note.splitlines(), *self._fused.splitlines(), *self.template.notes_of(self.spec.score)]


def _scored(encoded: Encoded, rewards: list[float | None], run: int) -> Scored:
    tokens = sum(len(ids) for ids in encoded.sequences if ids is not None)
    return Scored(tuple(rewards), encoded.refused, encoded.turns_cut, tokens, run, encoded.details)


def _tree_pieces(encoded: Sequence[Encoded], budget: int) -> Iterator[_Piece]:
    """One tree a task, or several where one would exceed the budget."""
    for task, item in enumerate(encoded):
        kept = [(i, ids) for i, ids in enumerate(item.sequences) if ids is not None]
        if not kept:
            continue
        tree = grow([ids for _, ids in kept])
        for part in split([len(branch) for branch in tree.branches], len(tree.prefix), budget):
            some = [kept[index] for index in part]
            yield _Piece(task, tuple(i for i, _ in some), grow([ids for _, ids in some]))


def _row_pieces(encoded: Sequence[Encoded]) -> Iterator[_Piece]:
    """Every response by itself, as a tree of one branch."""
    for task, item in enumerate(encoded):
        for response, ids in enumerate(item.sequences):
            if ids is not None:
                yield _Piece(task, (response,), grow([ids]))


def with_lengths(spec: RewardModelSpec, longest: int | None, device: torch.device) -> RewardModelSpec:
    """`spec` with its lengths and budget filled in; `longest` is the model's window in tokens, None without one."""
    max_length = spec.max_length or min(longest or LONGEST, LONGEST)
    if longest is not None and max_length > longest:
        raise InputError(f"the model's window is {longest} tokens", field="max_length", value=max_length)
    max_response = spec.max_response or max_length // 2
    if not 0 < max_response < max_length:
        raise InputError(
            f"must be between 1 and max_length {max_length} less the query", field="max_response", value=max_response
        )
    budget = spec.token_budget or (CPU_BUDGET if device.type == "cpu" else ACCELERATOR_BUDGET)
    if budget < 1:
        raise InputError("must be at least 1", field="token_budget", value=budget)
    return replace(spec, max_length=max_length, max_response=max_response, token_budget=budget)
