"""What a reward model in training says of held-out labels, on every rank the same figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from neat_data.progress import Watcher
from neat_data.record import Record
from neat_train.config.reward import RewardSettings
from neat_train.data.selection import labelled, selected
from neat_train.distributed import Ranks
from neat_train.losses.reward_model import loss_of
from neat_train.policy.undisturbed import undisturbed
from neat_train.reward_model import measures
from neat_train.reward_model.examples import Path, RewardEncoder, RewardExample, reward_batches
from neat_train.reward_model.model import scores


@dataclass(frozen=True, slots=True)
class _Scored:
    """An example and the score of each of its responses."""

    example: RewardExample
    scores: list[float]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each response, but for a constant of its record."""
        return [len(ids) for ids in self.example.sequences]


class HeldOutLabels:
    """Measures a reward model on records that it does not learn from."""

    def __init__(
        self,
        records: Sequence[Record],
        encoder: RewardEncoder,
        loss: RewardSettings,
        ranks: Ranks,
        path: Path,
        token_budget: int,
        watch: Watcher,
    ) -> None:
        """`records` are those of all ranks; those without a label are left out."""
        self._loss, self._ranks, self._path, self._budget, self._watch = loss, ranks, path, token_budget, watch
        own = [selected(record, labelled) for record in records[ranks.rank :: ranks.world]]
        examples = [encoder.example(record) for record in own if record is not None]
        self._own = [example for example in examples if example is not None]

    def measure(self, module: nn.Module, step: int) -> dict[str, float]:
        """Figures over the labels of all ranks; collective.

        Returns:
            `accuracy` with `accuracy_low` and `accuracy_high`, `pairs`, `ece`, `length_correlation`, `loss`, and the
            families of `measures`; what is not defined is left out.
        """
        with undisturbed(module):
            own, total = self._scored(module)
        shares = self._ranks.gather((own, total))
        scored = [one for part, _ in shares for one in part]
        figures = figures_of(scored, math.fsum(total for _, total in shares))
        if self._ranks.main:
            self._watch.say(f"held out at step {step}: {in_words(figures)}")
        return figures

    def _scored(self, module: nn.Module) -> tuple[list[_Scored], float]:
        """The examples of this rank with their scores, and the sum of the loss over their labels."""
        self._watch.phase("held out: scoring", len(self._own))
        device = next(module.parameters()).device
        scored: list[_Scored] = []
        losses = []
        for batch in reward_batches(self._own, self._budget, self._path):
            there = batch.to(device)
            values = scores(module, there)
            losses.append(float(loss_of(values, there.labels, self._loss)))
            rest = iter(values.tolist())
            scored += [_Scored(example, [next(rest) for _ in example.sequences]) for example in batch.examples]
            self._watch.advance(len(batch.examples), batch.tokens)
        return scored, math.fsum(losses)


def figures_of(scored: Sequence[_Scored], total: float) -> dict[str, float]:
    """The figures of scored examples; `total` is the sum of their loss."""
    labels = sum(one.example.labels for one in scored)
    pairs = measures.Pairs.of([(one.scores, one.example.orders) for one in scored])
    judged = [(one.scores[place], verdict) for one in scored for place, verdict in one.example.verdicts]
    return {
        **({"loss": total / labels} if labels else {}),
        **measures.accuracy(pairs),
        **measures.calibration(pairs),
        **measures.accuracy_by_gap(pairs),
        **measures.length_correlation([(one.scores, one.lengths) for one in scored]),
        **measures.verdict_accuracy(
            [score for score, verdict in judged if verdict], [score for score, verdict in judged if not verdict]
        ),
    }


def in_words(measured: dict[str, float]) -> str:
    """The figures of an evaluation on one line.

    >>> in_words({"accuracy": 0.6, "accuracy_low": 0.5, "accuracy_high": 0.7, "ece": 0.05, "pairs": 90.0})
    'accuracy 60.0 % (50.0 to 70.0) of 90 pairs, calibration error 5.0 %'
    """
    parts = []
    if "accuracy" in measured:
        low, high = 100 * measured["accuracy_low"], 100 * measured["accuracy_high"]
        parts.append(
            f"accuracy {100 * measured['accuracy']:.1f} % ({low:.1f} to {high:.1f}) of {measured['pairs']:,.0f} pairs"
        )
    if "ece" in measured:
        parts.append(f"calibration error {100 * measured['ece']:.1f} %")
    if "verdict_accuracy" in measured:
        parts.append(f"{100 * measured['verdict_accuracy']:.1f} % of {measured['verdicts']:,.0f} verdicts")
    return ", ".join(parts) or "no label is left"
