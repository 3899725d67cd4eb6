"""The trainer: transformers' loop, optimiser, schedules, checkpoints and callbacks around optimiser steps of our own.

One item of the data loader is the number of one optimiser step. `training_step` asks the source for this rank's records
of that step, turns them into micro-batches within the token budget, and runs them forward and backward. The ranks first
tell each other for how many records each term is defined and how many micro-batches they have: every term is divided
by its count over the whole step, and who has fewer micro-batches runs empty ones, so that no rank waits for ever.
Gradients therefore do not depend on budget or ranks, but for rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from neat_data.progress import Watcher
from neat_data.record import Record
from neat_train.config.objective import ObjectiveSettings, Penalised
from neat_train.data import batches
from neat_train.data.batches import MicroBatch, filler, micro_batches
from neat_train.data.examples import Encoder
from neat_train.data.order import steps_an_epoch
from neat_train.data.record_source import RecordSource
from neat_train.data.selection import Select, selected
from neat_train.distributed import Ranks
from neat_train.losses import LossPlan, TermCounts, diagnostics, objective, plan_for, total
from neat_train.losses.own import Own
from neat_train.policy.logprobs import logps, training_attention, tree_attention
from neat_train.policy.policy import Policy
from neat_train.training.checkpoints import WholeCheckpoints
from neat_train.training.divergence import DivergenceGuard, overflow_is_mended
from neat_train.training.held_out import HeldOut, Measures
from neat_train.training.progress import TRAINING
from neat_train.training.step_metrics import Load, StepFigures, figures_of
from neat_train.training.stepwise import Stepwise
from neat_train.training.stored_reference import StoredReference


@dataclass(frozen=True, slots=True)
class Packing:
    """How records become micro-batches.

    Attributes:
        path: token trees, or padded rows.
        token_budget: positions of one micro-batch.
    """

    path: batches.PackingMode
    token_budget: int


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to train on.

    Attributes:
        source: gives the records of each step.
        records: how many an epoch has, over all ranks.
        records_per_step: over all ranks.
        encoder: of the policy.
        select: what of a record is trained on; None: all of it.
    """

    source: RecordSource
    records: int
    records_per_step: int
    encoder: Encoder
    select: Select | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """A micro-batch, and what its rewards decide; `compared` are its tokens that the reference is asked for, alone."""

    batch: MicroBatch
    plan: LossPlan
    compared: tuple[MicroBatch, Tensor] | None


class NeatTrainer(Stepwise, Measures, WholeCheckpoints, Trainer):
    """Trains a policy on the objective of NEAT; see the module."""

    policy: Policy

    def __init__(
        self,
        policy: Policy,
        args: TrainingArguments,
        work: Work,
        loss: ObjectiveSettings,
        packing: Packing,
        watch: Watcher,
        held_out: HeldOut | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        own: Own | None = None,
        stored: StoredReference | None = None,
    ) -> None:
        args._n_gpu = min(args.n_gpu, 1)  # several cards in one process would be DataParallel; ranks are for that
        self.policy = policy
        if held_out is not None:
            self.held_out = held_out
        # transformers wants data before it evaluates; what is measured is in `held_out`
        super().__init__(policy.model, args, eval_dataset=[], callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)  # `metrics_file.MetricsFile` and the progress bar say it
        self.ranks = Ranks.here()
        self._own, self._stored = own, stored
        self._work, self._settings, self._packing, self._watch = work, loss, packing, watch
        self._guard = DivergenceGuard(loss, watch.say if self.ranks.main else lambda line: None)
        self.unlogged = []
        self.records, self.records_per_step = work.records, work.records_per_step

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One optimiser step's forward and backward passes.

        Returns:
            The loss of the step over all ranks, a scalar.

        Raises:
            RunError: the run diverges.
        """
        step = self.state.global_step
        if self._stored is not None and step % steps_an_epoch(self.records, self.records_per_step) == 0:
            self._stored.share(step)
        records = self._work.source.step(step)
        self._watch.phase(TRAINING, None)  # the source may have sampled
        model.train()
        if callable(train_mode := getattr(self.optimizer, "train", None)):
            train_mode()  # schedule-free optimisers
        made, load = self._packed(records)
        with training_attention(self.policy.body, self._packing.path):
            packed, health = self._run(model, made, load.counts)
        figures = figures_of(self.accelerator.reduce(packed, "sum"))
        self._check_rows(step + 1, made, health)
        loss = figures.pop("loss")
        self._guard.check(step + 1, loss, figures.get("best_logp"), figures.get("worst_logp"))
        self.unlogged.append({**figures, **load.amounts(), **self._work.source.metrics()})
        self._watch.advance(load.records, load.tokens)
        return torch.tensor(loss, device=packed.device)

    def _packed(self, records: Sequence[Record]) -> tuple[list[_Planned], Load]:
        """This rank's micro-batches, as many as the busiest rank has, and what the step is over all ranks."""
        encoder, before = self._work.encoder, Counter(self._work.encoder.counts)
        chosen = [record for record in (selected(each, self._work.select) for each in records) if record is not None]
        examples = [example for example in map(encoder.example, chosen) if example is not None]
        made = micro_batches(examples, self._packing.token_budget, self._packing.path, self._prompted)
        planned = [self._planned(batch) for batch in made]
        own = Load(
            micro_batches=len(made),
            counts=sum((item.plan.counted(self._settings) for item in planned), TermCounts(0, 0, 0)),
            records=len(examples),
            responses=sum(batch.answers for batch in made),
            response_tokens=sum(len(answer.ids) for example in examples for answer in example.answers),
            tokens=sum(batch.tokens for batch in made),
            encoder=encoder.counts - before,
        )
        load = Load.over(self.ranks.gather(own))
        empty = self._planned(filler(self._packing.path))
        return [*planned, *[empty] * (load.micro_batches - len(planned))], load

    @property
    def _prompted(self) -> Penalised | None:
        """The penalty's target, where its context is the prompt that produced it."""
        return self._settings.penalised if self._settings.penalised_in_context else None

    def _planned(self, batch: MicroBatch) -> _Planned:
        plan = plan_for(batch.layout, self._settings)
        responses = plan.referenced(self._settings)
        if not len(responses):
            return _Planned(batch, plan, None)
        if self._settings.active_ranking.needs_reference:  # nearly all of them: whole trees run each query once
            return _Planned(batch, plan, (batch, torch.arange(len(batch.at))))
        return _Planned(batch, plan, batch.only(responses))

    def _run(self, model: nn.Module, made: Sequence[_Planned], counts: TermCounts) -> tuple[Tensor, Tensor]:
        """Every micro-batch forward and backward; gradients meet those of the other ranks in the last one.

        Returns:
            The step's figures, packed, and for each micro-batch what `_health` says of it  # (micro-batches, 3)
        """
        device = self.accelerator.device
        figures, health = StepFigures(device), []
        ranked = self._settings.active_ranking.needs_reference
        for number, planned in enumerate(made, 1):
            batch, plan = planned.batch.to(device), planned.plan.to(device)
            reference = self._reference(planned)
            with nullcontext() if number == len(made) else self.accelerator.no_sync(model):
                values = logps(model, batch)  # (tokens,)
                components = objective(values, plan, self._settings, reference, self._own)
                loss = total(components, counts, self._settings)
                # distributed data parallelism will divide by the number of ranks; the counts are those of all
                self.accelerator.backward(loss * self.ranks.world)
            figures.add(loss, components, diagnostics(values, plan, reference if ranked else None))
            health.append(self._health(values.detach()))
        return figures.packed(), torch.stack(health)

    def _health(self, values: Tensor) -> Tensor:
        """Whether log-probabilities are finite, the first that is not, and whether the gradients so far are: int64

        On the device, so that nothing waits for it before the step is done  # (tokens,) -> (3,)
        """
        finite = values.isfinite()
        gradients = [weight.grad for weight in self.policy.model.parameters() if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return torch.stack([finite.all().long(), finite.long().argmin(), norm.isfinite().long().to(finite.device)])

    def _check_rows(self, step: int, made: Sequence[_Planned], health: Tensor) -> None:
        """Raise Diverged for the first row with a log-probability or a gradient that is no number.

        A gradient that overflows under a scaler is none of them: the scaler skips the step.
        """
        path, body = self._packing.path, self.policy.body
        way = f"path {path}" + (f", attention {tree_attention(body)}" if path == "trees" else "")
        for number, (values, token, gradients) in enumerate(health.tolist(), 1):
            row = f"row {number} of {len(made)} ({way}"
            batch = made[number - 1].batch
            if not values:
                raise self._guard.not_finite(step, "a log-probability", f"{row}, query {batch.query_of(token)})")
            if not gradients and not overflow_is_mended(self._scale):
                queries = list(dict.fromkeys(group.query_id for group in batch.groups))
                more = f" and {len(queries) - 3} more" if len(queries) > 3 else ""
                raise self._guard.not_finite(step, "the gradient", f"{row}, queries {', '.join(queries[:3])}{more})")

    def _reference(self, planned: _Planned) -> Tensor | None:
        """What the policy gave each token when training began, (tokens,); computed where the loss asks for it."""
        if not self._settings.needs_reference:
            return None
        device = self.accelerator.device
        values = torch.zeros(len(planned.batch.at), device=device)
        if planned.compared is not None:
            batch, places = planned.compared
            values[places.to(device)] = self._reference_of(batch).to(device)
        return values

    def _reference_of(self, batch: MicroBatch) -> Tensor:
        """The reference's log-probabilities of a batch's tokens, (tokens,); read where an earlier epoch stored them."""
        if self._stored is not None and (known := self._stored.get(batch)) is not None:
            return known
        with self.policy.reference() as module, self.accelerator.autocast():
            values = logps(module, batch.to(self.accelerator.device))
        if self._stored is not None:
            self._stored.add(batch, values)
        return values

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        self._guard.check_gradient(self.state.global_step + 1, float(norm), self._scale)
        return norm

    @property
    def _scale(self) -> float:
        """What the loss is multiplied by before its backward pass: more than 1 with fp16 alone."""
        scaler = self.accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._stored is not None:
            self._stored.write(self.state.global_step)
        super()._save_checkpoint(model, trial)
        self._work.source.saved(self.state.global_step)
