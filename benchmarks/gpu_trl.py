"""TRL's DPOTrainer on the pairs that `gpu.py` trains on: its own collator and loss, timed step by step."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import datasets
import gpu_model
import torch
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

from neat_train.data.examples import Example

WARM = 1


class _Trainer(DPOTrainer):
    def _prepare_dataset(self, dataset: datasets.Dataset, *_: Any) -> datasets.Dataset:
        return dataset  # it holds token ids


class _Clock(TrainerCallback):
    """Seconds of every optimiser step."""

    def __init__(self, device: str) -> None:
        self.seconds: list[float] = []
        self._device, self._start = device, 0.0

    def _now(self) -> float:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = self._now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(self._now() - self._start)


def steps(
    model: Any, examples: Sequence[Example], size: int, checkpointing: bool, options: argparse.Namespace
) -> tuple[list[float], int]:
    """Seconds of each optimiser step over all the examples, and the tokens of one, padding included.

    The reference's log-probabilities stand in the data, as after TRL's own `precompute_ref_log_probs`: no pass of the
    reference is timed.
    """
    count = len(examples) // size * size
    model.get_base_model().set_attn_implementation("sdpa")
    clock = _Clock(options.device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=count // size,
            max_steps=WARM + options.repeats,
            gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
            bf16=False,  # the weights are bfloat16 already, and nothing is cast for any other way
            max_length=None,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=options.device == "cpu",
        )
        tokenizer = AutoTokenizer.from_pretrained(gpu_model.TOKENIZER)
        table = _table(examples[:count])
        trainer = _Trainer(
            model=model, args=arguments, train_dataset=table, processing_class=tokenizer, callbacks=[clock]
        )
        trainer.precompute_ref_logps = True
        try:
            trainer.train()
        finally:
            if "ref" in model.peft_config:  # TRL's copy of the adapter: the next trainer makes its own
                model.delete_adapter("ref")
    batches = (trainer.data_collator(table.select(range(i, i + size)).to_list()) for i in range(0, count, size))
    return clock.seconds[WARM:], sum(batch["input_ids"].numel() for batch in batches)


def _table(examples: Sequence[Example]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [
            {
                "prompt_ids": list(example.query),
                "chosen_ids": list(example.answers[0].ids),
                "rejected_ids": list(example.answers[1].ids),
                "ref_chosen_logps": 0.0,
                "ref_rejected_logps": 0.0,
            }
            for example in examples
        ]
    )
