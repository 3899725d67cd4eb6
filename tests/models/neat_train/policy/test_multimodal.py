"""A policy that also sees pictures: its language is trained, and what is saved can see as before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3Config

from neat_data.progress import Silent
from neat_train.config.settings import LoraSettings
from neat_train.policy.merge import merge
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train
from tests.support.classifiers import train_tokenizer

TEXT = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "layer_types": ["full_attention"] * 2,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
PROCESSOR = {"preprocessor_config.json": '{"do_resize": true}', "processor_config.json": '{"image_seq_length": 4}'}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multimodal")
    torch.manual_seed(0)
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    train_tokenizer().save_pretrained(folder)
    for name, text in PROCESSOR.items():
        (folder / name).write_text(text)
    return folder


def loaded(model: Path, *, full: bool = False, **lora: object) -> Policy:
    return load_policy_to_train(PolicySpec(str(model), full, LoraSettings(**lora), device="cpu", dtype="float32"))


def kept(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in PROCESSOR if (folder / name).is_file()}


def test_all_linear_layers_are_those_of_the_language(model: Path) -> None:
    trained = loaded(model).trained
    assert len(trained) == 2 * 7 * 2, "A and B of seven layers in two blocks"
    assert all(".language_model." in name for name in trained)


def test_layers_that_are_named_are_trained_wherever_they_are(model: Path) -> None:
    assert any(".vision_tower." in name for name in loaded(model, target_modules=["q_proj"]).trained)


def test_what_is_merged_or_saved_whole_keeps_what_tells_of_pictures(model: Path, tmp_path: Path) -> None:
    loaded(model).save(tmp_path / "run")
    merge(tmp_path / "run", tmp_path / "merged", None, "cpu", False, Silent(), base=str(model))
    loaded(model, full=True).save(tmp_path / "full")
    assert kept(tmp_path / "merged") == kept(tmp_path / "full") == PROCESSOR
    assert kept(tmp_path / "run") == {}, "an adapter's model has them"
