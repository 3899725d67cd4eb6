"""What an optimiser step is logged with: sums over its micro-batches and ranks, and the means they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neat_train.losses import Component, Components, Diagnostics, TermCounts

# Over the steps of one log; everything else is averaged.
SUMMED = (
    *("tokens", "records", "responses", "response_tokens", "encoder/"),
    *("round/responses", "round/tokens", "round/dropped/", "round/sampling_seconds", "round/scoring_seconds"),
)
_NAMES = (
    *("sft", "ranking", "penalty", "best_logp", "worst_logp", "ranking_accuracy", "negative_worst"),
    *("best_ratio", "worst_ratio", "ratio_accuracy"),
)


@dataclass(slots=True)
class StepFigures:
    """Adds up a step's micro-batches on their device, so that nothing waits for it before the step is done.

    Attributes:
        device: where the sums are kept.
    """

    device: torch.device
    _loss: Tensor = field(init=False)
    _sums: Tensor = field(init=False)
    _counts: list[int] = field(default_factory=lambda: [0] * len(_NAMES))

    def __post_init__(self) -> None:
        self._loss = torch.zeros((), device=self.device)
        self._sums = torch.zeros(len(_NAMES), device=self.device)

    def add(self, loss: Tensor, components: Components, seen: Diagnostics) -> None:
        """One micro-batch: its share of the loss, its terms and what is watched beside them."""
        parts: Sequence[Component] = (
            *(components.sft, components.ranking, components.penalty),
            *(seen.best_logp, seen.worst_logp, seen.accuracy, seen.negative_worst),
            *(seen.best_ratio, seen.worst_ratio, seen.ratio_accuracy),
        )
        self._loss += loss.detach()
        self._sums += torch.stack([part.sum.detach().float() for part in parts])
        self._counts = [count + part.count for count, part in zip(self._counts, parts, strict=True)]

    def packed(self) -> Tensor:
        """All of it as one tensor, for one reduction over the ranks by addition."""
        counts = torch.tensor(self._counts, dtype=torch.float32, device=self.device)
        return torch.cat([self._loss[None], self._sums, counts])


def figures_of(packed: Tensor) -> dict[str, float]:
    """The loss and the mean of every part that occurred, from what `StepFigures.packed` gave, added over the ranks."""
    loss, *values = packed.tolist()
    sums, counts = values[: len(_NAMES)], values[len(_NAMES) :]
    means = {name: total / count for name, total, count in zip(_NAMES, sums, counts, strict=True) if count}
    return {"loss": loss, **means}


@dataclass(frozen=True, slots=True)
class Load:
    """How much a step has to do, on one rank or on all of them.

    Attributes:
        response_tokens: of the responses alone, each counted once.
        tokens: positions that run, padding included.
        encoder: what encoding the records counted.
    """

    micro_batches: int
    counts: TermCounts
    records: int
    responses: int
    response_tokens: int
    tokens: int
    encoder: Counter[str]

    @classmethod
    def over(cls, ranks: Sequence[Load]) -> Load:
        """All ranks together; micro-batches are those of the busiest, and at least one."""
        return cls(
            micro_batches=max(1, *(load.micro_batches for load in ranks)),
            counts=sum((load.counts for load in ranks), TermCounts(0, 0, 0)),
            records=sum(load.records for load in ranks),
            responses=sum(load.responses for load in ranks),
            response_tokens=sum(load.response_tokens for load in ranks),
            tokens=sum(load.tokens for load in ranks),
            encoder=sum((load.encoder for load in ranks), Counter()),
        )

    def amounts(self) -> dict[str, float]:
        """For the log."""
        counted = {f"encoder/{name}": count for name, count in sorted(self.encoder.items()) if count}
        names = ("tokens", "records", "responses", "response_tokens")
        return {**{name: getattr(self, name) for name in names}, **counted}


def over_steps(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """What one log says of several steps: amounts are added, everything else is the mean of the steps that have it.

    >>> over_steps([{"tokens": 3, "sft": 1.0}, {"tokens": 4, "sft": 2.0, "ranking": 0.5}])
    {'tokens': 7, 'sft': 1.5, 'ranking': 0.5}
    """
    names = dict.fromkeys(name for step in steps for name in step)
    columns = {name: [step[name] for step in steps if name in step] for name in names}
    return {
        name: sum(values) if name.startswith(SUMMED) else sum(values) / len(values) for name, values in columns.items()
    }
