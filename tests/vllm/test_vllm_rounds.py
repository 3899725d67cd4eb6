"""vLLM as the sampler of online rounds: each block is sampled with the adapter of its moment."""

import pytest

pytest.importorskip("vllm", reason="vLLM lives in an environment of its own: make test-vllm", exc_type=ImportError)
pytest.importorskip("peft", reason="adapters need peft")

import torch

from neat_data.errors import InputError
from neat_data.models.load import load_sampler
from neat_data.models.sampler import Ask, SamplerSpec, Sampling
from neat_data.record import Message
from neat_train.config.settings import FitSettings, LoraSettings
from neat_train.distributed import Ranks
from neat_train.policy.policy import PolicySpec, load_policy_to_train
from neat_train.rounds.live_sampler import live_sampler
from neat_train.rounds.load import live

QUESTIONS = ("How do I bake bread?", "Why is the sky blue?", "Who are you?", "What is rain?")
ASKS = [Ask((Message("user", text),), 7, Sampling(0.0, 1.0, 24)) for text in QUESTIONS]
SETTINGS = FitSettings.model_validate(
    {"rounds": {"prompts": "plain", "sampler": "vllm"}, "max_length": 256, "training": {"seed": 0}}
)


def load(model, **options):
    return load_policy_to_train(PolicySpec(str(model), False, LoraSettings(r=4), device="cpu", **options))


def change(policy, seed):
    """Another adapter, in place, as a step of training would make it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))


def test_each_round_samples_with_its_own_adapter(policy, tmp_path):
    """Greedy in float32, so that the live model and a freshly loaded adapter say token by token what is expected."""
    trained = load(policy)
    sampler_of = live(trained, SETTINGS, tmp_path, Ranks())
    rounds, expected, labels = [], [], []
    try:
        for number in range(3):
            if number:
                change(trained, number)
            with sampler_of.now(trained.trained_hash()) as sampler:
                rounds.append(sampler.sample(ASKS))
                labels.append(sampler.label)
            expected.append(live_sampler(trained, SETTINGS).sample(ASKS))
        assert labels[2] == live_sampler(trained, SETTINGS).label
        with sampler_of.now(trained.trained_hash()) as sampler:
            assert sampler.sample(ASKS) == rounds[2]
    finally:
        sampler_of.close()
    assert rounds == expected
    assert rounds[0] == load_sampler(SamplerSpec(str(policy), device="cpu", max_length=256)).sample(ASKS)
    assert len({tuple(one.tokens for one in samples) for samples in rounds}) == 3
    assert len(set(labels)) == 3
    assert sampler_of.settings["adapter"] == "live"
    assert str(tmp_path) not in str(sampler_of.settings)


def test_what_has_no_adapter_cannot_be_handed_over(policy, tmp_path):
    whole = load_policy_to_train(PolicySpec(str(policy), True, LoraSettings(), device="cpu"))
    with pytest.raises(InputError, match=r"rounds\.sampler vllm and full"):
        live(whole, SETTINGS, tmp_path, Ranks())
    with pytest.raises(InputError, match="leave out nproc"):
        live(load(policy), SETTINGS, tmp_path, Ranks(0, 2))
