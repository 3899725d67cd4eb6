"""Examples to micro-batches of whole records: token trees packed to a budget, or padded rows of like length.

In a tree the prefix is the query without its last token, and each branch begins with that token: so every position of
a branch predicts exactly one token of its response, and none predicts more. Either way a micro-batch says which
positions predict which token of which response; `logprobs` computes no more than those, and `losses` sees the same flat
layout. A response to penalise in the context of its own prompt travels with its record as a copy behind that prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from neat_data.models.trees.packing import pack, rectangles
from neat_data.models.trees.tree import TokenTree, lay
from neat_train.config.objective import Penalised
from neat_train.data.examples import Example
from neat_train.losses import Layout
from neat_train.losses.plan import two_deviations_down

PackingMode = Literal["trees", "batches"]


@dataclass(frozen=True, slots=True)
class _Group:
    """Responses behind one query: those of a record, or the one copy behind its prompt."""

    query_id: str
    query: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def tree(self) -> TokenTree:
        return TokenTree(self.query[:-1], tuple((self.query[-1], *ids[:-1]) for ids in self.answers))

    @property
    def rows(self) -> list[tuple[int, ...]]:
        return [(*self.query, *ids[:-1]) for ids in self.answers]


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """What one forward pass takes, and what its log-probabilities mean.

    Attributes:
        ids: (rows, width) int64; one row of packed trees, or padded rows.
        positions: (rows, width) int64 position ids.
        trees: for each tree the length of its prefix, then of its branches; None for padded rows.
        lengths: (rows,) int64, how much of each row is no padding.
        at: (N,) int64, indices into the flattened rows: the positions that predict.
        targets: (N,) int64, the token that each of them predicts.
        layout: of these N tokens; stays on the host, where `losses.plan_of` wants it.
        tokens: positions that run, padding included.
        answers: responses of records.
        groups: what it was made of, in the order of the layout's responses.
    """

    ids: Tensor
    positions: Tensor
    trees: tuple[tuple[int, ...], ...] | None
    lengths: Tensor
    at: Tensor
    targets: Tensor
    layout: Layout
    tokens: int
    answers: int
    groups: tuple[_Group, ...]

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same micro-batch with what a model takes on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "positions", "lengths", "at", "targets")}
        return replace(self, **moved)

    def only(self, responses: Tensor) -> tuple[MicroBatch, Tensor]:
        """Some responses alone, each behind its query, as a micro-batch of no record.

        Args:
            responses: (n,) at least one of the layout's, each once.

        Returns:
            The micro-batch, and the places of its tokens among those of this one  # (M,)
        """
        alone = [replace(group, answers=(ids,)) for group in self.groups for ids in group.answers]
        chosen = sorted(responses.tolist())  # tokens are laid in the order of responses
        groups = [alone[index] for index in chosen]
        places = torch.isin(self.layout.response, torch.tensor(chosen)).nonzero()[:, 0]
        return _made(groups, _of_no_record(groups), 0, "batches" if self.trees is None else "trees"), places

    def query_of(self, token: int) -> str:
        """The id of the query behind the response that the N tokens' `token` belongs to."""
        owners = [group.query_id for group in self.groups for _ in group.answers]
        return owners[int(self.layout.response[token])]


@dataclass(frozen=True, slots=True)
class _Item:
    """An example with the answer whose copy `copied` is to be penalised in its stead."""

    example: Example
    copied: int | None

    @property
    def groups(self) -> list[_Group]:
        answers = self.example.answers
        own = _Group(self.example.query_id, self.example.query, tuple(answer.ids for answer in answers))
        if self.copied is None:
            return [own]
        prompted = answers[self.copied].prompted
        assert prompted is not None
        return [own, _Group(self.example.query_id, prompted, (answers[self.copied].ids,))]


def micro_batches(
    examples: Sequence[Example], token_budget: int, path: PackingMode, prompted: Penalised | None = None
) -> list[MicroBatch]:
    """Micro-batches of whole records within a token budget; a record above it is alone.

    Args:
        examples: of one optimiser step.
        token_budget: positions that one forward pass may run, padding included.
        path: token trees, or padded rows.
        prompted: the penalty's target where it is conditioned on the prompt that produced it; None: on the query.
    """
    items = [_Item(example, _copied(example, prompted)) for example in examples]
    if path == "trees":
        packs = pack([sum(group.tree.tokens for group in item.groups) for item in items], token_budget)
        return [_of([items[index] for index in sorted(indices)], path) for indices in packs]
    lengths = [[len(row) for group in item.groups for row in group.rows] for item in items]
    batches = rectangles([max(rows) for rows in lengths], token_budget, rows=[len(rows) for rows in lengths])
    return [_of([items[index] for index in indices], path) for indices in batches]


def filler(path: PackingMode) -> MicroBatch:
    """A micro-batch of no record, so that every rank can run the same number: its loss is 0, with a graph."""
    group = _Group("", (0, 0), ((0,),))
    return _made([group], _of_no_record([group]), 0, path)


def _of_no_record(groups: Sequence[_Group]) -> Layout:
    """The layout of responses that no term counts."""
    lengths = torch.tensor([len(ids) for group in groups for ids in group.answers])
    none = torch.zeros_like(lengths)
    return Layout(
        response=torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        mask=torch.ones(int(lengths.sum()), dtype=torch.bool),
        record=none - 1,
        reward=none.float(),
        negative=none.bool(),
        query=none,
    )


def _copied(example: Example, target: Penalised | None) -> int | None:
    """The answer that the penalty falls on, as `losses.plan_of` will find it, where it has a context of its own."""
    if target is None:
        return None
    answers = example.answers
    candidates = [i for i, a in enumerate(answers) if target != "negative_prompt" or a.polarity == "negative"]
    if target == "mu-2sigma" and answers[-1].reward < answers[0].reward:
        candidates = [two_deviations_down([answer.reward for answer in answers])]
    lower = [i for i in candidates[-1:] if answers[i].reward < answers[0].reward]
    return next((i for i in lower if answers[i].prompted is not None), None)


def _of(items: Sequence[_Item], path: PackingMode) -> MicroBatch:
    groups = [group for item in items for group in item.groups]
    return _made(groups, _layout(items), sum(len(item.example.answers) for item in items), path)


def _made(groups: Sequence[_Group], layout: Layout, answers: int, path: PackingMode) -> MicroBatch:
    return _laid(groups, layout, answers) if path == "trees" else _padded(groups, layout, answers)


def _laid(groups: Sequence[_Group], layout: Layout, answers: int) -> MicroBatch:
    """One row of packed trees."""
    row = lay([group.tree for group in groups])
    targets = [ids for group in groups for ids in group.answers]
    predicting = [range(last + 1 - len(ids), last + 1) for last, ids in zip(row.last, targets, strict=True)]
    return MicroBatch(
        ids=torch.tensor([row.ids]),
        positions=torch.tensor([row.positions]),
        trees=row.lengths,
        lengths=torch.tensor([len(row.ids)]),
        at=torch.tensor(list(chain(*predicting))),
        targets=torch.tensor(list(chain(*targets))),
        layout=layout,
        tokens=len(row.ids),
        answers=answers,
        groups=tuple(groups),
    )


def _padded(groups: Sequence[_Group], layout: Layout, answers: int) -> MicroBatch:
    """Rows padded on the right with a token that is never looked at: lengths alone say what is padding."""
    rows = [row for group in groups for row in group.rows]
    targets = [ids for group in groups for ids in group.answers]
    lengths = [len(row) for row in rows]
    width = max(lengths)
    ends = [number * width + length for number, length in enumerate(lengths)]
    return MicroBatch(
        ids=torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]),
        positions=torch.arange(width).repeat(len(rows), 1),
        trees=None,
        lengths=torch.tensor(lengths),
        at=torch.tensor(list(chain(*(range(end - len(ids), end) for end, ids in zip(ends, targets, strict=True))))),
        targets=torch.tensor(list(chain(*targets))),
        layout=layout,
        tokens=len(rows) * width,
        answers=answers,
        groups=tuple(groups),
    )


def _layout(items: Sequence[_Item]) -> Layout:
    """Responses numbered as they are laid: those of a record, then its copy, which belongs to no record."""
    lengths: list[int] = []
    record: list[int] = []
    reward: list[float] = []
    negative: list[bool] = []
    stead: list[int] = []
    query: list[int] = []
    for number, item in enumerate(items):
        answers, first = item.example.answers, len(record)
        copies = [] if item.copied is None else [answers[item.copied]]
        lengths += [len(answer.ids) for answer in (*answers, *copies)]
        record += [number] * len(answers) + [-1] * len(copies)
        query += [len(item.example.query)] * len(answers) + [len(copy.prompted or ()) for copy in copies]
        reward += [answer.reward for answer in answers] + [0.0] * len(copies)
        negative += [answer.polarity == "negative" for answer in answers] + [False] * len(copies)
        stead += range(first, len(record))
        if item.copied is not None:
            stead[first + item.copied] = len(record) - 1
    response = torch.repeat_interleave(torch.arange(len(record)), torch.tensor(lengths))
    return Layout(
        response=response,
        mask=torch.ones(len(response), dtype=torch.bool),
        record=torch.tensor(record),
        reward=torch.tensor(reward, dtype=torch.float32),
        negative=torch.tensor(negative, dtype=torch.bool),
        prompted=torch.tensor(stead),
        query=torch.tensor(query),
    )
