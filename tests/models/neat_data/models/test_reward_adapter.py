"""Reward models that peft saved: rewards are those of AutoModelForSequenceClassification with peft's own loading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, LlamaConfig

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.memory import estimate
from neat_data.models.reward_adapter import BASE
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.reward_models.tokenized import load_shape
from neat_data.models.weights import ModelSource, identity_of

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(make_policy: Make) -> Path:
    return make_policy(LlamaConfig)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return trained(base, tmp_path / "adapter")


def trained(base: Path, folder: Path, **options: Any) -> Path:
    """A reward adapter as peft saves it, with random weights in the place of trained ones."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    config = LoraConfig(**{"task_type": "SEQ_CLS", "target_modules": "all-linear", "r": 4, **options})
    wrapped = get_peft_model(model, config)
    for weight in wrapped.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    wrapped.save_pretrained(folder)
    return folder


def spec(model: Path, **options: Any) -> RewardModelSpec:
    return RewardModelSpec(str(model), device="cpu", dtype="float32", **options)


def by_peft(base: Path, adapter: Path, sequences: list[list[int]]) -> list[float]:
    """One sequence at a time, by transformers and peft alone."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    whole = PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        return [whole(input_ids=torch.tensor([ids])).logits.item() for ids in sequences]


def rewards(found: Any, tasks: list[Task]) -> list[float]:
    return [reward for one in found.score(tasks) for reward in one.rewards]


def sequences(found: Any, tasks: list[Task]) -> list[list[int]]:
    return [ids for task in tasks for ids in found._encode(task).sequences]


def test_rewards_are_those_of_peft(base: Path, adapter: Path, tasks: list[Task]) -> None:
    found = load_reward_model(spec(adapter, base=str(base)))
    assert found.spec.path == "trees"
    assert rewards(found, tasks) == pytest.approx(by_peft(base, adapter, sequences(found, tasks)), abs=1e-5)


def test_what_it_is_is_told_by_base_and_adapter(base: Path, adapter: Path) -> None:
    settings = load_reward_model(spec(adapter, base=str(base))).settings
    assert settings["weights"] == identity_of(ModelSource.parse(str(base)))["weights"]
    assert len(settings["adapter"]) == 64
    assert settings["model"] == "adapter"


def test_a_head_that_the_configuration_does_not_name_is_taken(base: Path, adapter: Path, tasks: list[Task]) -> None:
    plain = rewards(load_reward_model(spec(adapter, base=str(base))), tasks)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "modules_to_save": None, "task_type": "CAUSAL_LM"}))
    assert rewards(load_reward_model(spec(adapter, base=str(base))), tasks) == plain


def test_an_adapter_of_a_reward_model_keeps_that_ones_head(
    make_classifier: Make, tokenizer: Any, tmp_path: Path, tasks: list[Task]
) -> None:
    base = make_classifier(LlamaConfig, tokenizer)
    adapter = trained(base, tmp_path / "adapter", task_type=None, target_modules=["q_proj", "v_proj"])
    assert not any("score" in name for name in load_file(adapter / "adapter_model.safetensors"))
    found = load_reward_model(spec(adapter, base=str(base)))
    assert rewards(found, tasks) == pytest.approx(by_peft(base, adapter, sequences(found, tasks)), abs=1e-5)


def test_a_path_in_the_adapter_is_not_followed_and_one_that_was_named_is_remembered(
    base: Path, adapter: Path, tasks: list[Task]
) -> None:
    with pytest.raises(InputError, match="no path is followed on a file's word"):
        load_reward_model(spec(adapter))
    first = load_reward_model(spec(adapter, base=str(base)))
    assert rewards(load_reward_model(spec(adapter)), tasks) == rewards(first, tasks)


def test_another_base_than_it_was_trained_on_is_refused(base: Path, adapter: Path, make_policy: Make) -> None:
    (adapter / BASE).write_text(json.dumps({"weights": identity_of(ModelSource.parse(str(base)))["weights"]}))
    other = make_policy(LlamaConfig, num_hidden_layers=1)
    with pytest.raises(InputError, match="has other weights"):
        load_reward_model(spec(adapter, base=str(other)))


def test_an_adapter_of_another_shape_is_refused(adapter: Path, make_policy: Make) -> None:
    with pytest.raises(InputError, match="does not fit its model"):
        load_reward_model(spec(adapter, base=str(make_policy(LlamaConfig, hidden_size=64))))


def test_no_head_anywhere_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = trained(base, tmp_path / "headless", task_type=None, target_modules=["q_proj"])
    with pytest.raises(InputError, match="has no score head, and neither has its base model"):
        load_reward_model(spec(adapter, base=str(base)))


def test_a_head_of_two_outputs_is_refused(base: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    head = next(name for name in weights if name.endswith("score.weight"))
    save_file({**weights, head: weights[head].repeat(2, 1)}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="has 2 outputs"):
        load_reward_model(spec(adapter, base=str(base)))


def test_a_whole_model_needs_no_base(make_classifier: Make, tokenizer: Any, base: Path) -> None:
    with pytest.raises(InputError, match="is no adapter"):
        load_reward_model(spec(make_classifier(LlamaConfig, tokenizer), base=str(base)))


def test_vllm_is_told_to_leave_adapters_alone(adapter: Path) -> None:
    with pytest.raises(InputError, match="vLLM scores whole models"):
        load_shape(spec(adapter))


def test_memory_counts_base_and_adapter(base: Path, adapter: Path) -> None:
    weights = [file for folder in (base, adapter) for file in folder.glob("*.safetensors")]
    counted = estimate(spec(adapter, base=str(base))).weights
    assert counted == sum(4 * sum(tensor.numel() for tensor in load_file(file).values()) for file in weights)


def test_the_tokenizer_may_lie_beside_the_adapter(base: Path, adapter: Path, tasks: list[Task]) -> None:
    plain = rewards(load_reward_model(spec(adapter, base=str(base))), tasks)
    for file in base.glob("*token*"):
        shutil.move(file, adapter / file.name)
    shutil.move(base / "chat_template.jinja", adapter / "chat_template.jinja")
    assert rewards(load_reward_model(spec(adapter, base=str(base))), tasks) == plain
