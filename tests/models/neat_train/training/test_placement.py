"""Where the reward model lies, which one it is, and whether everything fits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.reward_models.transformers import TransformersRewardModel
from neat_data.record import Message
from neat_data.store.dataset import PreferenceDataset
from neat_train.config.settings import LoraSettings
from neat_train.distributed import Ranks
from neat_train.policy.policy import PolicySpec, load_policy_to_train
from neat_train.training.memory import MemorySum, adapter_numbers, memory_sum
from neat_train.training.placement import Resting, awake, check_memory, load_reward, reward_device, reward_spec
from tests.support.killing import ROOT
from tests.support.online import Heard, policy_folder, reward_folder, scored_dataset, settings_of

CPU = torch.device("cpu")
TASK = Task((Message("user", "Hi"),), ("Hello.", "Go away."))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreferenceDataset:
    return PreferenceDataset.open(scored_dataset(tmp_path_factory.mktemp("scored")))


def policy(**changes) -> PolicySpec:
    return replace(PolicySpec(policy_folder(), False, LoraSettings(), device="cpu"), **changes)


def test_the_datasets_own_model_scores(dataset):
    own = load_reward_model(RewardModelSpec(reward_folder(), device="cpu"))
    reward = load_reward(settings_of(), dataset, CPU, Heard())
    assert reward.settings == own.settings == dataset.manifest.settings["reward_model"]
    assert reward.score([TASK]) == own.score([TASK])


def test_another_reward_model_is_refused_unless_it_is_said(dataset):
    other = {"reward_model": str(ROOT / "data" / "models" / "tiny-reward-heldout")}
    with pytest.raises(InputError, match=r"another reward model .*[\s\S]*rounds\.mix_rewards\."):
        load_reward(settings_of(rounds=other), dataset, CPU, Heard())
    assert load_reward(settings_of(rounds={**other, "mix_rewards": True}), dataset, CPU, Heard())


def test_a_dataset_on_a_machine_that_does_not_know_its_model_says_so(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "another-cache"))
    with pytest.raises(InputError, match=r"not noted here\.\nSay where it is: rounds\.reward_model MODEL"):
        load_reward(settings_of(), dataset, CPU, Heard())


def test_a_server_is_named_by_its_url(dataset):
    rounds = {"placement": "server", "reward_model": "http://127.0.0.1:9"}
    assert reward_spec(settings_of(rounds=rounds), dataset, CPU).model == "http://127.0.0.1:9"
    with pytest.raises(InputError, match=r"rounds\.placement server and rounds\.reward_model \(not set\)"):
        reward_spec(settings_of(rounds={"placement": "server"}), dataset, CPU)
    with pytest.raises(InputError, match="say the server's URL"):
        reward_spec(settings_of(rounds={**rounds, "reward_model": reward_folder()}), dataset, CPU)


def test_a_device_of_its_own_is_asked_for_where_there_is_none(dataset):
    with pytest.raises(InputError, match="no card for the reward model"):
        reward_spec(settings_of(rounds={"placement": "devices"}), dataset, CPU)
    said = settings_of(rounds={"placement": "devices", "reward_device": "cpu"})
    assert reward_device(said, torch.device("cuda", 0), Ranks(0, 1)) == "cpu"


def test_a_model_that_rests_scores_alike_and_goes_to_its_device_once_a_block():
    model = load_reward_model(RewardModelSpec(reward_folder(), device="cpu"))
    assert isinstance(model, TransformersRewardModel)
    expected = model.score([TASK])
    ways = []
    resting = Resting(model)
    resting._move = ways.append  # type: ignore[method-assign]
    assert resting.score([TASK]) == expected
    with awake(resting):
        assert [resting.score([TASK]) for _ in range(3)] == [expected] * 3
    assert len(ways) == 4


@pytest.mark.parametrize("modules", ["all-linear", ["q_proj", "v_proj"]])
def test_the_adapter_is_counted_as_peft_makes_it(modules):
    lora = LoraSettings(r=4, target_modules=modules)
    made = load_policy_to_train(policy(lora=lora))
    numbers = sum(weight.numel() for weight in made.model.parameters() if weight.requires_grad)
    assert adapter_numbers(AutoConfig.from_pretrained(policy_folder()), lora) == numbers


def test_the_sum_is_that_of_its_parts():
    """Weights of 4 bytes; for what is trained a gradient and the two means of Adam; 2 layers of 32 and 64."""
    settings = settings_of(rounds={"prompts": "neat"})
    needs = memory_sum(settings, policy(), None, CPU, 1, False)
    numbers = adapter_numbers(AutoConfig.from_pretrained(policy_folder()), LoraSettings())
    weights = sum(p.numel() for p in load_policy_to_train(policy(full=True)).model.parameters())
    assert needs.always == {"policy": 4 * (weights + numbers), "gradients and optimiser": 12 * numbers}
    assert needs.turns["activations"] == 2048 * 4 * 2 * (8 * 32 + 4 * 64)
    assert needs.total == sum(needs.always.values()) + max(needs.turns.values())
    full = memory_sum(settings, policy(full=True), None, CPU, 1, False)
    assert full.always == {"policy": 4 * weights, "gradients and optimiser": 12 * weights}
    two = memory_sum(settings, policy(), None, CPU, 2, False)
    assert two.always["policy"] == 2 * needs.always["policy"]
    checkpointed = settings_of(training={"seed": 0, "gradient_checkpointing": True})
    assert memory_sum(checkpointed, policy(), None, CPU, 1, False).turns["activations"] < needs.turns["activations"]


def test_the_reward_model_counts_all_the_time_or_in_its_turn():
    reward = RewardModelSpec(reward_folder(), device="cpu")
    stays = memory_sum(settings_of(), policy(), reward, CPU, 1, False)
    rests = memory_sum(settings_of(), policy(), reward, CPU, 1, True)
    assert stays.always["reward model"] == rests.turns["reward model"] > 5e5
    assert rests.total < stays.total


def test_what_cannot_fit_is_refused_with_the_sum(dataset):
    watch = Heard()
    check_memory(settings_of(), policy(), dataset, Ranks(), watch)
    assert "memory on cpu" in watch.lines[0]
    assert "reward model" in watch.lines[0]
    with pytest.raises(InputError, match=r"memory on cpu[\s\S]*try a smaller token_budget"):
        check_memory(settings_of(token_budget=1 << 40), policy(), dataset, Ranks(), watch)
    MemorySum(CPU, {"a": 1.0}, {}, 1.0).check()
    with pytest.raises(InputError):
        MemorySum(CPU, {"a": 1.0}, {"b": 0.5}, 1.0).check()


def test_an_adapter_to_go_on_from_is_counted_with_its_model(dataset, tmp_path):
    made = load_policy_to_train(policy())
    made.save(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    again = memory_sum(
        settings_of(), policy(model=str(tmp_path / "adapter"), base=policy_folder()), None, CPU, 1, False
    )
    assert again.always == memory_sum(settings_of(), policy(), None, CPU, 1, False).always
