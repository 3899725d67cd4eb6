"""TRL's own trainers take two optimiser steps on what was exported for them, with a tiny random model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import trl
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import neat_data
from neat_data.formats.export import ExportRequest, export

LEARNING_RATE = 1e-2


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    torch.manual_seed(0)


@pytest.fixture
def tokenizer(tiny_classifier: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_classifier)


@pytest.fixture
def policy(tokenizer: Any, tmp_path: Path) -> LlamaForCausalLM:
    """From a folder, which is where the trainers read the reference model from."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "policy")
    return LlamaForCausalLM.from_pretrained(tmp_path / "policy")


@pytest.fixture
def exported(scored_sample: Path, tmp_path: Path) -> Callable[..., datasets.Dataset]:
    """Exports the sample and opens the file or folder as a user of `datasets` would."""

    def make(to: str, name: str, **options: Any) -> datasets.Dataset:
        out = tmp_path / name
        export(neat_data.open(str(scored_sample)), ExportRequest(to, out, **options))
        if out.is_dir():
            return datasets.load_from_disk(str(out))
        kind = "parquet" if out.suffix == ".parquet" else "json"
        return datasets.load_dataset(kind, data_files=str(out), split="train")

    return make


def settings(tmp_path: Path, batch: int = 2) -> dict[str, Any]:
    return {
        "output_dir": str(tmp_path / "trained"),
        "max_steps": 2,
        "per_device_train_batch_size": batch,
        "learning_rate": LEARNING_RATE,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_length": 512,
    }


def two_steps(trainer: Any) -> list[float]:
    """Train; the loss of each of the two steps, after seeing that they moved the weights."""
    before = [weight.detach().clone() for weight in trainer.model.parameters()]
    trainer.train()
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True)]
    assert any(moved)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    return losses


@pytest.mark.parametrize(
    ("name", "options"), [("a.jsonl", {"pairs": "labels"}), ("a.parquet", {}), ("folder", {"pairs": "all"})]
)
def test_dpo(exported, tokenizer, policy, tmp_path, name, options):
    rows = exported("trl-dpo", name, **options)
    trainer = trl.DPOTrainer(
        policy, args=trl.DPOConfig(**settings(tmp_path)), train_dataset=rows, processing_class=tokenizer
    )
    first = trainer.train_dataset[0]
    assert tokenizer.decode(first["prompt_ids"]).endswith("<|assistant|>")
    assert tokenizer.decode(first["chosen_ids"]) == rows[0]["chosen"][0]["content"] + "<|end|>"
    assert two_steps(trainer)[0] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference are still equal


@pytest.mark.parametrize("pairs", [None, "labels"])
def test_sft(exported, tokenizer, policy, tmp_path, pairs):
    rows = exported("trl-sft", "a.json", pairs=pairs)
    trainer = trl.SFTTrainer(
        policy, args=trl.SFTConfig(**settings(tmp_path)), train_dataset=rows, processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    marked = zip(batch["input_ids"], batch["labels"], strict=True)
    learnt = {tokenizer.decode(ids[labels != -100]) for ids, labels in marked}
    assert learnt <= {row["content"] + "<|end|>" for (row,) in rows["completion"]}
    losses = two_steps(trainer)
    assert losses[0] == pytest.approx(math.log(len(tokenizer)), rel=0.05)  # a random model knows nothing


@pytest.mark.parametrize("pairs", [None, "labels"])
def test_kto(exported, tokenizer, policy, tmp_path, pairs):
    rows = exported("trl-kto", "a.parquet", pairs=pairs)
    trainer = trl.KTOTrainer(
        policy, args=trl.KTOConfig(**settings(tmp_path, batch=4)), train_dataset=rows, processing_class=tokenizer
    )
    assert sum(rows["label"]) == len(rows) / 2
    assert two_steps(trainer)[0] == pytest.approx(0.5, abs=1e-3)  # 1 - sigmoid(0)


def test_reward(exported, tokenizer, tiny_classifier, tmp_path):
    rows = exported("trl-reward", "a.jsonl", min_gap=1.0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier)
    torch.nn.init.zeros_(model.score.weight)
    trainer = trl.RewardTrainer(
        model, args=trl.RewardConfig(**settings(tmp_path)), train_dataset=rows, processing_class=tokenizer
    )
    margins = next(iter(trainer.get_train_dataloader()))["margin"].tolist()
    assert set(margins) <= set(rows["margin"])
    assert min(rows["margin"]) > 1.0
    shuffled = [margin for batch in trainer.get_train_dataloader() for margin in batch["margin"].tolist()]
    assert sorted(shuffled) == sorted(rows["margin"])
    assert two_steps(trainer)[0] > math.log1p(math.e)  # two equal rewards under a margin above 1


def test_lines_are_plain_json(exported, tmp_path):
    exported("trl-dpo", "a.jsonl")
    for line in (tmp_path / "a.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert [turn["role"] for turn in row["chosen"] + row["rejected"]] == ["assistant"] * 2
        assert row["prompt"][-1]["role"] == "user"
        assert None not in row.values()
