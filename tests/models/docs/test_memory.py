"""The memory table of docs/first-day.md holds what `neat_train.training.memory` says of an 8B model."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel

from neat_data.models.reward_model import RewardModelSpec
from neat_train.config.reading import read_settings
from neat_train.fitting import default_budget
from neat_train.policy.policy import PolicySpec
from neat_train.training import memory
from tests.support.killing import ROOT

# As in meta-llama/Meta-Llama-3-8B's config.json.
LLAMA_3_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
CARD = 80e9
CASES: tuple[tuple[int, dict[str, Any], tuple[str, ...]], ...] = (
    (0, {}, ()),
    (1, {}, ("rounds.sampler=vllm",)),
    (2, {"load_in_4bit": True}, ()),
    (3, {}, ("gradient_checkpointing=false",)),
    (4, {"full": True}, ()),
)


def without_weights(folder: Path, kind: type[PreTrainedModel], **more: Any) -> str:
    """A folder that says which weights the model has, and has none: all that an estimate reads."""
    config = LlamaConfig(**LLAMA_3_8B, **more, architectures=[kind.__name__])
    with torch.device("meta"):
        tensors = kind(config).state_dict()
    entries = {name: {"dtype": "BF16", "shape": list(tensor.shape)} for name, tensor in tensors.items()}
    header = json.dumps(entries).encode()
    config.save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return str(folder)


def table() -> list[str]:
    text = (ROOT / "docs/first-day.md").read_text()
    return text.partition("| there all the time |")[2].partition("\n\n")[0].splitlines()[2:]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("8b")
    reward = without_weights(folder / "reward", LlamaForSequenceClassification, num_labels=1)
    return without_weights(folder / "policy", LlamaForCausalLM), reward


@pytest.mark.parametrize(("row", "flags", "sets"), CASES)
def test_a_row_of_the_table_is_what_fit_would_print(
    row: int,
    flags: dict[str, Any],
    sets: tuple[str, ...],
    models: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("neat_data.models.memory.resolve_device", torch.device)  # there is no card to be found
    monkeypatch.setattr("neat_train.training.memory.free_bytes", lambda _: CARD)
    monkeypatch.setattr("neat_train.training.memory._whole", lambda _: CARD)
    settings = read_settings(ROOT / "pipelines/recommended.yaml", {"method": "neat-pp", **flags}, sets)
    settings = settings.model_copy(update={"token_budget": default_budget("cuda")})
    policy = PolicySpec(models[0], settings.full, settings.lora, settings.load_in_4bit, device="cuda")
    reward = RewardModelSpec(models[1], device="cuda", dtype="bfloat16")
    needs = memory.memory_sum(settings, policy, reward, torch.device("cuda"), 4, reward_rests=True)
    expected = [*needs.always.values(), *needs.turns.values(), needs.total]
    written = re.findall(r"\d+\.\d\d\b", table()[row])
    assert written == [f"{size / 1e9:.2f}" for size in expected]
