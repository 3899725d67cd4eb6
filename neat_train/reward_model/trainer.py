"""The steps of a reward model: records to micro-batches, scores, the loss over the labels of the whole step.

The ranks first tell each other how many labels the step has and how many micro-batches, as `training.trainer` does, so
that neither the budget nor the number of ranks changes a gradient, but for rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from neat_data.progress import Watcher
from neat_train.config.reward import RewardSettings
from neat_train.data.record_source import RecordSource
from neat_train.data.selection import labelled
from neat_train.distributed import Ranks
from neat_train.losses.reward_model import Labels, loss_of
from neat_train.policy.logprobs import training_attention
from neat_train.reward_model.examples import RewardBatch, RewardEncoder, filler, reward_batches
from neat_train.reward_model.held_out import HeldOutLabels
from neat_train.reward_model.model import TrainedReward, scores
from neat_train.training.checkpoints import WholeCheckpoints
from neat_train.training.divergence import Diverged, overflow_is_mended
from neat_train.training.held_out import Measures
from neat_train.training.progress import TRAINING
from neat_train.training.stepwise import Stepwise

_MEANS = ("accuracy", "margin", "score")


class RewardTrainer(Stepwise, Measures, WholeCheckpoints, Trainer):
    """Trains a reward model; see the module."""

    def __init__(
        self,
        reward: TrainedReward,
        args: TrainingArguments,
        source: RecordSource,
        records: int,
        records_per_step: int,
        encoder: RewardEncoder,
        loss: RewardSettings,
        token_budget: int,
        watch: Watcher,
        held_out: HeldOutLabels | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        args._n_gpu = min(args.n_gpu, 1)  # several cards in one process would be DataParallel; ranks are for that
        self.policy = self._reward = reward
        if held_out is not None:
            self.held_out = held_out
        self.records, self.records_per_step, self.unlogged = records, records_per_step, []
        super().__init__(reward.model, args, eval_dataset=[], callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)
        self.ranks = Ranks.here()
        self._source, self._encoder, self._loss, self._budget, self._watch = source, encoder, loss, token_budget, watch

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One optimiser step's forward and backward passes.

        Returns:
            The loss of the step over all ranks, a scalar.

        Raises:
            Diverged: the loss or a gradient is not finite.
        """
        step = self.state.global_step
        self._watch.phase(TRAINING, None)
        model.train()
        if callable(train_mode := getattr(self.optimizer, "train", None)):
            train_mode()  # schedule-free optimisers
        made, labels, amounts = self._packed(step)
        with training_attention(self._reward.body, self._reward.choice.path):
            packed = self._run(model, made, labels)
        loss, *sums = self.accelerator.reduce(packed, "sum").tolist()
        if not math.isfinite(loss):
            raise Diverged(f"stopped at step {step + 1}: the loss is {loss}. Say a smaller learning_rate.")
        pairs, responses = sums[-2:]
        means = zip(
            _MEANS, (sums[0] / max(pairs, 1), sums[1] / max(pairs, 1), sums[2] / max(responses, 1)), strict=True
        )
        self.unlogged.append({**dict(means), **amounts})
        self._watch.advance(int(amounts["records"]), int(amounts["tokens"]))
        return torch.tensor(loss, device=packed.device)

    def _packed(self, step: int) -> tuple[list[RewardBatch], int, dict[str, float]]:
        """This rank's micro-batches, as many as the busiest rank has; the labels and the amounts of all ranks."""
        before = Counter(self._encoder.counts)
        records = [labelled(record) for record in self._source.step(step)]
        examples = [example for example in map(self._encoder.example, records) if example is not None]
        path = self._reward.choice.path
        made = reward_batches(examples, self._budget, path)
        own: Counter[str] = Counter(
            records=len(examples),
            responses=sum(batch.responses for batch in made),
            tokens=sum(batch.tokens for batch in made),
            labels=sum(example.labels for example in examples),
        )
        own.update({f"encoder/{name}": count for name, count in (self._encoder.counts - before).items()})
        shares = self.ranks.gather((len(made), own))
        total = sum((share for _, share in shares), Counter())
        most = max(1, *(count for count, _ in shares))
        amounts = {**dict.fromkeys(("records", "responses", "tokens"), 0.0), **total}
        return [*made, *[filler(path)] * (most - len(made))], total["labels"], amounts

    def _run(self, model: nn.Module, made: Sequence[RewardBatch], labels: int) -> Tensor:
        """Every micro-batch forward and backward; gradients meet those of the other ranks in the last one.

        Returns:
            Loss, pairs in order, sum of their distances, sum of scores, pairs, responses  # (6,)
        """
        device = self.accelerator.device
        figures = torch.zeros(6, device=device)
        for number, batch in enumerate(made, 1):
            there = batch.to(device)
            with nullcontext() if number == len(made) else self.accelerator.no_sync(model):
                values = scores(model, there)
                loss = loss_of(values, there.labels, self._loss) / max(labels, 1)
                # distributed data parallelism will divide by the number of ranks; the labels are those of all
                self.accelerator.backward(loss * self.ranks.world)
            figures += torch.cat([loss.detach()[None], _seen(values.detach(), there.labels)])
        return figures

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        scaler = self.accelerator.scaler
        if not math.isfinite(float(norm)) and not overflow_is_mended(
            1.0 if scaler is None else float(scaler.get_scale())
        ):
            raise Diverged(
                f"stopped at step {self.state.global_step + 1}: the gradient's norm is {float(norm)}. "
                "Say a smaller learning_rate."
            )
        return norm


def _seen(values: Tensor, labels: Labels) -> Tensor:
    """First against last of each order: in order, their distance; the scores' sum; orders, responses  # (5,)"""
    last = (labels.orders >= 0).sum(1, keepdim=True) - 1
    gap = values[labels.orders[:, 0]] - values[labels.orders.gather(1, last)[:, 0]]
    real = labels.count > 0  # no filler
    counts = [len(gap), len(values) * real]
    sums = [(gap > 0).sum(), gap.sum(), values.sum() * real]
    return torch.stack([*(part.float() for part in sums), *values.new_tensor(counts)])
