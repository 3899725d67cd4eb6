"""The methods that NEAT is compared with, DPO and SFT, trained by TRL's own trainers on the same terms.

The same token ids (`rows`), the same records in each step (`steps`), the same measurements,
checkpoints and files; what is TRL's is the loss. An optimiser step is one item of the data loader: micro-batches under
the token budget, each weighed so that neither their sizes nor the number of ranks change the gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from neat_data.errors import InputError
from neat_data.progress import Watcher
from neat_train.baselines.rows import Rows, rows_of
from neat_train.baselines.steps import BaselineSteps
from neat_train.config.settings import FitSettings
from neat_train.data.examples import Encoder
from neat_train.data.records import Records
from neat_train.distributed import Ranks
from neat_train.policy.policy import Policy
from neat_train.training.checkpoints import WholeCheckpoints
from neat_train.training.held_out import HeldOut, Measures
from neat_train.training.step_metrics import over_steps

_WEIGHT = "weight"  # of a micro-batch, beside what its collator makes

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


def train_baseline(
    settings: FitSettings,
    records: Records,
    policy: Policy,
    encoder: Encoder,
    held_out: HeldOut | None,
    ranks: Ranks,
    arguments: dict[str, Any],
    callbacks: Sequence[TrainerCallback],
    watch: Watcher,
    checkpoint: Path | None = None,
) -> Trainer:
    """Train `policy` by method dpo-trl or sft-trl until its last step; only checkpoints are written, into RUN.

    Args:
        settings: of method dpo-trl or sft-trl, with the device's token budget filled in.
        records: those to train on.
        policy: as it was loaded, without a step taken: DPO's reference is what it is now. Where all weights are
            trained, DPO needs it to have been loaded with `keep_reference`.
        encoder: of that policy.
        held_out: what `eval_strategy` measures; None where it is "no".
        arguments: TrainingArguments by name (`trainer_arguments.keywords`).
        callbacks: beside those that transformers adds.
        checkpoint: the one to go on from (`checkpoints.newest_whole`); None: from the start.

    Returns:
        The trainer when it is done: `state` says what happened, `policy` is trained.

    Raises:
        InputError: no record to learn from, or TRL cannot train this policy in this way.
        RunError: the disk is full.
    """
    rows = rows_of(records, settings, encoder, watch)
    for reason, count in sorted(rows.skipped.items()):
        watch.say(f"method {settings.method}: {count:,} records say nothing to learn ({reason})")
    trainer = make_trainer(settings, rows, policy, held_out, ranks, arguments, callbacks, watch)
    watch.phase("training", None)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer


def make_trainer(
    settings: FitSettings,
    rows: Rows,
    policy: Policy,
    held_out: HeldOut | None,
    ranks: Ranks,
    arguments: dict[str, Any],
    callbacks: Sequence[TrainerCallback],
    watch: Watcher,
) -> Trainer:
    """TRL's trainer over these rows; arguments and errors as `train_baseline`."""
    shared: dict[str, Any] = {
        "model": policy.model,
        "train_dataset": rows.table,
        "eval_dataset": rows.table if held_out else None,  # never looked at: `Measures` measures
        "processing_class": _tokenizer(policy),
        "callbacks": list(callbacks),
    }
    try:
        trainer = (_dpo if settings.method == "dpo-trl" else _sft)(settings, policy, arguments, shared)
    except ValueError as error:
        raise InputError(f"method {settings.method}: {' '.join(str(error).split())[:300]}") from error
    trainer.policy, trainer.watch, trainer.steps = policy, watch, steps_of(rows, settings, ranks)
    if held_out is not None:
        trainer.held_out = held_out
    trainer.remove_callback(PrinterCallback)
    return trainer


def steps_of(rows: Rows, settings: FitSettings, ranks: Ranks) -> BaselineSteps:
    """Which rows each step trains on, and how they are packed."""
    assert settings.token_budget is not None
    return BaselineSteps(
        ids=rows.ids,
        lengths=rows.lengths,
        learned=rows.learned,
        sequences=2 if settings.method == "dpo-trl" else 1,
        records_per_step=settings.records_per_step,
        seed=settings.seed,
        token_budget=settings.token_budget,
        ranks=ranks,
        places={query: row for row, query in enumerate(rows.ids)},
    )


class _Stepwise(WholeCheckpoints, Measures, _Base):
    """TRL's trainers with our steps; the mixin stands in front of them."""

    steps: BaselineSteps
    watch: Watcher

    def __init__(self, *, args: TrainingArguments, **shared: Any) -> None:
        args._n_gpu = min(args.n_gpu, 1)  # several cards in one process would be DataParallel; ranks are for that
        self._unlogged: list[dict[str, float]] = []
        super().__init__(args=args, **shared)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The numbers of an epoch's steps; which records these are, `steps` knows."""
        numbers: Any = [{"step": number} for number in range(self.steps.an_epoch)]
        # A generator of its own: the loader draws from it, and a run that goes on makes one loader more.
        return DataLoader(numbers, batch_size=1, collate_fn=lambda items: items[0], generator=torch.Generator())

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Records of an epoch."""
        return len(self.steps.ids)

    def get_total_train_batch_size(self, args: TrainingArguments) -> int:
        """Records of a step."""
        return self.steps.records_per_step

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of each micro-batch; ranks wait for each other's gradients at the last."""
        step = self.state.global_step
        micros = self.steps.micros(step)
        learned = torch.tensor(self.steps.tokens_learned(step), device=self.args.device)
        table: Any = self.train_dataset
        losses = []
        for number, micro in enumerate(micros, 1):
            batch = self.data_collator([table[row] for row in micro.rows])
            with nullcontext() if number == len(micros) else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, {**batch, _WEIGHT: micro.weight}, learned))
        amounts = self.steps.amounts(step)
        self._unlogged.append(amounts)
        self.watch.advance(int(amounts["records"]), int(amounts["tokens"]))
        return torch.stack(losses).sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the steps since the last log were made of."""
        if "loss" in logs and self._unlogged:
            logs.update(over_steps(self._unlogged))
            self._unlogged = []
        logs.pop("total_flos", None)
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: a step is more than one batch."""
        return 0

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """`card` writes one for the run."""

    def _send_telemetry(self) -> None:
        """Nothing is sent."""


class _DPO(_Stepwise, DPOTrainer):
    def _prepare_dataset(self, dataset: datasets.Dataset, *_: Any) -> datasets.Dataset:
        return dataset  # it holds token ids

    def compute_loss(self, model: nn.Module, inputs: Any, *rest: Any, **named: Any) -> Any:
        """The mean over the micro-batch's pairs, as its share of the mean over the step's."""
        weight = inputs.pop(_WEIGHT)
        return super().compute_loss(model, inputs, *rest, **named) * weight


class _SFT(_Stepwise, SFTTrainer):
    def compute_loss(self, model: nn.Module, inputs: Any, *rest: Any, **named: Any) -> Any:
        """The sum over the micro-batch's tokens divided by the number of the whole step's; 0 of a filler."""
        real = inputs.pop(_WEIGHT) > 0
        return super().compute_loss(model, inputs, *rest, **named) * real


def _dpo(settings: FitSettings, policy: Policy, arguments: dict[str, Any], shared: dict[str, Any]) -> _Stepwise:
    if settings.lora.dropout:
        raise InputError(f"lora.dropout {settings.lora.dropout} and method dpo-trl: TRL trains it without dropout")
    if policy.full and policy.frozen is None:
        raise ValueError("the policy was loaded without a reference")
    own: dict[str, Any] = {"beta": settings.dpo.beta, "max_length": None}
    return _DPO(args=DPOConfig(**own, **{**_plain(DPOConfig), **arguments}), ref_model=policy.frozen, **shared)


def _sft(_: FitSettings, policy: Policy, arguments: dict[str, Any], shared: dict[str, Any]) -> _Stepwise:
    own: dict[str, Any] = {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}
    return _SFT(args=SFTConfig(**own, **{**_plain(SFTConfig), **arguments}), **shared)


def _plain(kind: type[TrainingArguments]) -> dict[str, Any]:
    """transformers' defaults where TRL has its own: a setting means the same for every method."""
    usual = {field.name: field.default for field in fields(TrainingArguments) if field.default is not MISSING}
    changed = [field for field in fields(kind) if field.init and field.default != usual.get(field.name, field.default)]
    return {field.name: usual[field.name] for field in changed}


def _tokenizer(policy: Policy) -> PreTrainedTokenizerBase:
    """A copy with a padding token, which TRL gives to any tokenizer: the policy's own is saved as it was."""
    tokenizer = copy.deepcopy(policy.tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(policy.stops.ids[-1])
    return tokenizer
