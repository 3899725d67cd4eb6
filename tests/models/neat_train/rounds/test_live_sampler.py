"""Sampling from the model in training: the samples of a loaded one, and training that does not notice."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from neat_data.models.load import load_sampler
from neat_data.models.sampler import Ask, SamplerSpec, Sampling
from neat_data.models.trees.attention import TREES_SDPA
from neat_data.record import Message
from neat_train.config.settings import LoraSettings
from neat_train.data.batches import micro_batches
from neat_train.data.examples import Example, TrainedResponse
from neat_train.policy import logprobs
from neat_train.policy.policy import PolicySpec, load_policy_to_train
from neat_train.rounds.live_sampler import live_sampler
from tests.support.online import QUESTIONS, policy_folder, settings_of, trained

ASKS = [Ask((Message("user", text),), seed, Sampling(max_new_tokens=8)) for seed, text in enumerate(QUESTIONS)]
EXAMPLES = [
    Example(
        "a", tuple(range(10, 22)), (TrainedResponse("x", (30, 31, 32, 2), 1.0), TrainedResponse("y", (40, 41, 2), 0.0))
    ),
    Example(
        "b", tuple(range(50, 57)), (TrainedResponse("z", (60, 61, 62, 63, 2), 1.0), TrainedResponse("w", (70, 2), 0.0))
    ),
]


def load(full=False, checkpointing=False, dropout=0.2):
    lora = LoraSettings(r=4, dropout=dropout)
    return load_policy_to_train(
        PolicySpec(policy_folder(), full, lora, device="cpu", gradient_checkpointing=checkpointing)
    )


def train(policy, sampling, path="trees"):
    """Three steps, and what was sampled between them; returns samples, losses and weights."""
    torch.manual_seed(7)
    settings = settings_of()
    policy.model.train()
    optimiser = torch.optim.AdamW(trained(policy).values(), lr=1e-2)
    samples, losses = [], []
    for _ in range(3):
        if sampling:
            samples.append(live_sampler(policy, settings).sample(ASKS))
        with logprobs.training_attention(policy.body, path):
            for batch in micro_batches(EXAMPLES, 64, path):
                loss = -logprobs.logps(policy.model, batch).mean()
                loss.backward()
                losses.append(loss.item())
        optimiser.step()
        optimiser.zero_grad()
    return samples, losses, {name: weight.detach().clone() for name, weight in trained(policy).items()}


@pytest.mark.parametrize(("full", "checkpointing"), [(False, True), (True, False)])
def test_training_does_not_notice_that_samples_were_drawn(full, checkpointing):
    ends = []
    for sampling in (False, True):
        policy = load(full, checkpointing)
        logprobs.prepare(policy.body, "trees")
        attention = policy.body.config._attn_implementation
        base = {n: w.clone() for n, w in policy.model.named_parameters() if not w.requires_grad}
        samples, losses, weights = train(policy, sampling)
        assert attention == policy.body.config._attn_implementation
        assert all(torch.equal(w, base[n]) for n, w in policy.model.named_parameters() if n in base)
        ends.append((losses, weights))
    assert samples[0] != samples[2]
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(weight, ends[1][1][name]) for name, weight in ends[0][1].items())


def test_everything_is_put_back_as_it_was():
    policy = load()
    logprobs.prepare(policy.body, "trees")
    policy.model.train()
    policy.body.model.layers[0].eval()
    modes = [module.training for module in policy.model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    live_sampler(policy, settings_of()).sample(ASKS)
    assert [module.training for module in policy.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert torch.is_grad_enabled()


def test_samples_are_those_of_the_saved_policy(tmp_path):
    policy = load()
    logprobs.prepare(policy.body, "trees")
    start = load_sampler(SamplerSpec(policy_folder(), device="cpu", max_length=256)).sample(ASKS)
    assert live_sampler(policy, settings_of()).sample(ASKS) == start
    train(policy, sampling=False)
    policy.save(tmp_path / "adapter")
    samples = live_sampler(policy, settings_of()).sample(ASKS)
    assert samples != start
    saved = SamplerSpec(policy_folder(), adapter=str(tmp_path / "adapter"), device="cpu", max_length=256)
    assert samples == load_sampler(saved).sample(ASKS)


def test_the_label_names_the_start_and_what_it_has_become():
    policy = load(dropout=0.0)
    settings = settings_of()
    label = live_sampler(policy, settings).label
    assert label == f"{policy.label}+live:{policy.trained_hash()[:12]}"
    with torch.no_grad():
        next(iter(trained(policy).values())).add_(1)
    assert live_sampler(policy, settings).label != label


def test_a_query_is_cut_as_in_training():
    policy = load()
    logprobs.prepare(policy.body, "trees")
    turns = [Message(("user", "assistant")[n % 2], "A rather long turn, with words. " * 9) for n in range(9)]
    settings = settings_of(max_length=256, max_response=32)
    (sample,) = live_sampler(policy, settings).sample([Ask(tuple(turns), 0, Sampling(max_new_tokens=32))])
    short = load_sampler(SamplerSpec(policy_folder(), device="cpu", max_length=256))
    assert sample.turns_cut > 0
    assert sample == short.sample([replace(ASKS[0], messages=tuple(turns), sampling=Sampling(max_new_tokens=32))])[0]


def test_the_attention_of_training_never_samples():
    policy = load()
    logprobs.prepare(policy.body, "trees")
    with logprobs.training_attention(policy.body, "trees"):
        assert policy.body.config._attn_implementation == TREES_SDPA
    assert live_sampler(policy, settings_of()).settings["attention"] != TREES_SDPA
