"""Records to what a reward model learns from: token trees of the responses that labels speak of, and what these say.

A dialogue becomes the same token ids as in scoring (`neat_data.models.encode`), of a response that thinks its answer
alone (`neat_data.models.answers`), so that what is trained is what will score. A micro-batch holds whole records within
a token budget.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from neat_data.labels import orders, verdicts
from neat_data.models.encode import encode
from neat_data.models.reward_model import Task
from neat_data.models.templates import ChatTemplate
from neat_data.models.trees.packing import pack, rectangles
from neat_data.models.trees.tree import TokenTree, grow, lay
from neat_data.record import Record
from neat_data.thought import answer_of
from neat_train.losses.reward_model import Labels

Path = Literal["trees", "batches"]


@dataclass(frozen=True, slots=True)
class RewardExample:
    """A record's labelled responses.

    Attributes:
        sequences: the token ids of each, the query's with it.
        given: the dataset's rewards, nan where it has none.
        orders: numbers of responses, best first.
        verdicts: numbers of single responses, and whether people accepted them.
    """

    query_id: str
    sequences: tuple[list[int], ...]
    given: tuple[float, ...]
    orders: tuple[tuple[int, ...], ...]
    verdicts: tuple[tuple[int, bool], ...]

    @property
    def tree(self) -> TokenTree:
        """The responses behind what they share."""
        return grow(self.sequences)

    @property
    def labels(self) -> int:
        """How many there are."""
        return len(self.orders) + len(self.verdicts)


class RewardEncoder:
    """Makes examples of records, and counts what it had to leave out.

    Attributes:
        counts: `queries_cut`: lost oldest turns; `query_too_long`, `template_refused`: records left out;
            `response_too_long`, `no_answer` (a thought and nothing behind it): responses left out; `no_responses`:
            records of which no label is left.
    """

    def __init__(self, template: ChatTemplate, max_length: int, max_response: int) -> None:
        """`max_length` are tokens of query and response, `max_response` of a response with its end of turn."""
        self.counts: Counter[str] = Counter()
        self._template, self._max_length, self._max_response = template, max_length, max_response

    def example(self, record: Record) -> RewardExample | None:
        """The example of a `labelled` record; None where nothing of it is left."""
        answers = [(response, answer_of(response.text)) for response in record.responses]
        said = [(response, answer) for response, answer in answers if answer is not None]
        self.counts["no_answer"] += len(answers) - len(said)
        task = Task(record.messages, tuple(answer for _, answer in said))
        encoded = encode(task, self._template, self._max_length, self._max_response)
        self.counts["queries_cut"] += bool(encoded.turns_cut)
        refused = [reason for reason in encoded.refused if reason is not None]
        whole = bool(refused) and refused[0] != "response_too_long"
        self.counts.update(refused[:1] if whole else refused)
        kept = [(response, ids) for (response, _), ids in zip(said, encoded.sequences, strict=True) if ids is not None]
        example = _of(replace(record, responses=tuple(response for response, _ in kept)), [ids for _, ids in kept])
        if not example.labels:
            self.counts["no_responses"] += not whole
            return None
        return example


def _of(record: Record, sequences: Sequence[list[int]]) -> RewardExample:
    number = {response.response_id: place for place, response in enumerate(record.responses)}
    return RewardExample(
        query_id=record.query_id,
        sequences=tuple(sequences),
        given=tuple(math.nan if response.reward is None else response.reward for response in record.responses),
        orders=tuple(tuple(number[each.response_id] for each in order) for order in orders(record)),
        verdicts=tuple((number[each.response_id], verdict) for each, verdict in verdicts(record)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class RewardBatch:
    """What one forward pass takes, and what its scores mean.

    Attributes:
        ids, positions: (rows, width) int64; one row of packed trees, or padded rows.
        trees: for each tree the length of its prefix, then of its branches; None for padded rows.
        lengths: (rows,) int64, how much of each row is no padding.
        last: (responses,) int64, index of every response's last token in the flattened rows.
        labels: stays on the host until it is moved.
        examples: what it was made of, in the order of the responses.
        tokens: positions that run, padding included.
    """

    ids: Tensor
    positions: Tensor
    trees: tuple[tuple[int, ...], ...] | None
    lengths: Tensor
    last: Tensor
    labels: Labels
    examples: tuple[RewardExample, ...]
    tokens: int

    def to(self, device: torch.device | str) -> RewardBatch:
        """The same on `device`."""
        names = ("ids", "positions", "lengths", "last", "labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def responses(self) -> int:
        """How many are scored."""
        return sum(len(example.sequences) for example in self.examples)


def reward_batches(examples: Sequence[RewardExample], token_budget: int, path: Path) -> list[RewardBatch]:
    """Micro-batches of whole records within a token budget; a record above it is alone."""
    if path == "trees":
        packs = pack([example.tree.tokens for example in examples], token_budget)
        return [reward_batch([examples[index] for index in sorted(indices)], path) for indices in packs]
    widths = [max(map(len, example.sequences)) for example in examples]
    together = rectangles(widths, token_budget, rows=[len(example.sequences) for example in examples])
    return [reward_batch([examples[index] for index in indices], path) for indices in together]


def filler(path: Path) -> RewardBatch:
    """A micro-batch without a label, so that every rank can run the same number."""
    return reward_batch([RewardExample("", ([0, 0],), (0.0,), (), ())], path)


def reward_batch(examples: Sequence[RewardExample], path: Path) -> RewardBatch:
    """Examples as one forward pass."""
    return _laid(examples) if path == "trees" else _padded(examples)


def _laid(examples: Sequence[RewardExample]) -> RewardBatch:
    row = lay([example.tree for example in examples])
    return RewardBatch(
        ids=torch.tensor([row.ids]),
        positions=torch.tensor([row.positions]),
        trees=row.lengths,
        lengths=torch.tensor([len(row.ids)]),
        last=torch.tensor(row.last),
        labels=_labels(examples),
        examples=tuple(examples),
        tokens=len(row.ids),
    )


def _padded(examples: Sequence[RewardExample]) -> RewardBatch:
    """Rows padded on the right with a token that is never looked at: lengths alone say what is padding."""
    rows = [ids for example in examples for ids in example.sequences]
    lengths = torch.tensor([len(ids) for ids in rows])
    width = int(lengths.max())
    return RewardBatch(
        ids=torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in rows]),
        positions=torch.arange(width).repeat(len(rows), 1),
        trees=None,
        lengths=lengths,
        last=torch.arange(len(rows)) * width + lengths - 1,
        labels=_labels(examples),
        examples=tuple(examples),
        tokens=len(rows) * width,
    )


def _labels(examples: Sequence[RewardExample]) -> Labels:
    ordered: list[list[int]] = []
    judged: dict[bool, list[int]] = {True: [], False: []}
    first = 0
    for example in examples:
        ordered += [[first + place for place in order] for order in example.orders]
        for place, verdict in example.verdicts:
            judged[verdict].append(first + place)
        first += len(example.sequences)
    longest = max(map(len, ordered), default=2)
    padded = [[*order, *[-1] * (longest - len(order))] for order in ordered]
    return Labels(
        orders=torch.tensor(padded, dtype=torch.int64).reshape(-1, longest),
        accepted=torch.tensor(judged[True], dtype=torch.int64),
        rejected=torch.tensor(judged[False], dtype=torch.int64),
        given=torch.tensor([reward for example in examples for reward in example.given], dtype=torch.float32),
    )
