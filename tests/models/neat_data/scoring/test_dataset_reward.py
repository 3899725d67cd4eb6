"""The reward model of a dataset is found again, and another one is recognised as another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec
from neat_data.scoring.dataset_reward import completed, mismatches, remember, require_same, require_same_files, spec_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_model_is_loaded_again_from_where_it_was_with_its_lengths(tmp_path: Path, tiny_classifier: Path):
    model = load_reward_model(RewardModelSpec(str(tiny_classifier), device="cpu", max_length=100, max_response=30))
    remember(model.spec, model.settings)
    spec = spec_of(tmp_path, model.settings, "cpu")
    assert (spec.max_length, spec.max_response, spec.dtype) == (100, 30, "float32")
    assert mismatches(model.settings, load_reward_model(spec).settings) == []


def test_a_model_that_is_gone_or_changed_is_named(tmp_path: Path, tiny_classifier: Path):
    folder = shutil.copytree(tiny_classifier, tmp_path / "model")
    model = load_reward_model(RewardModelSpec(str(folder), device="cpu"))
    remember(model.spec, model.settings)
    own = model.settings
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"no longer at .*model"):
        spec_of(tmp_path, own, "cpu")
    with pytest.raises(InputError, match=r"(?s)weights: .* -> .*mix_rewards"):
        require_same(own, {**own, "weights": "0"}, tmp_path)
    assert mismatches(own, {**own, "device": "cuda", "token_budget": 1, "path": "batches"}) == []


def test_a_folder_with_other_weights_is_refused_before_it_is_loaded(tmp_path: Path, tiny_classifier: Path):
    own = {"backend": "transformers", "model": "model", "weights": "0"}
    with pytest.raises(InputError, match="another reward model"):
        require_same_files(own, RewardModelSpec(str(tiny_classifier)), tmp_path)
    for elsewhere in ("http://127.0.0.1:1", "judge:wise", "org/name", str(tmp_path / "none")):
        require_same_files(own, RewardModelSpec(elsewhere), tmp_path)


def test_without_a_cache_to_write_to_nothing_is_noted(tmp_path: Path, tiny_classifier: Path, own_cache: Path):
    model = load_reward_model(RewardModelSpec(str(tiny_classifier), device="cpu"))
    own_cache.write_text("a file")
    remember(model.spec, model.settings)
    with pytest.raises(InputError, match="not noted here"):
        spec_of(tmp_path, model.settings, "cpu")


def test_rewards_that_nothing_can_make_again_need_a_model_by_name(tmp_path: Path):
    with pytest.raises(InputError, match=r"came with its source\.\n.*: reward_model MODEL"):
        spec_of(tmp_path, {"model": "given"}, "cpu")
    with pytest.raises(InputError, match="came from rm-server"):
        spec_of(tmp_path, {"model": "rm-server", "backend": "http"}, "cpu")


def test_models_without_hashes_are_told_apart_by_name(tmp_path: Path):
    assert mismatches({"model": "given"}, {"model": "x", "weights": "1"}) == ["model: given -> x"]


def test_neither_an_address_nor_a_function_is_noted(own_cache: Path):
    remember(RewardModelSpec("http://user:secret@127.0.0.1:1"), {"backend": "http", "model": "rm"})
    remember(RewardModelSpec("rm.py:rate"), {"backend": "callable", "model": "rm.py:rate", "sha256": "0"})
    assert not own_cache.exists()


def test_a_function_takes_a_datasets_place_though_it_knows_no_lengths(tmp_path: Path, tiny_classifier: Path):
    own = load_reward_model(RewardModelSpec(str(tiny_classifier), device="cpu")).settings
    (tmp_path / "rewards.py").write_text("def short(conversations):\n    return [1.0 for _ in conversations]\n")
    function = RewardModelSpec(f"{tmp_path / 'rewards.py'}:short", device="cpu")
    assert load_reward_model(completed(function, own)).settings["model"]
    with pytest.raises(InputError, match="max_length: has no meaning"):
        load_reward_model(completed(RewardModelSpec(function.model, device="cpu", max_length=99), own))
