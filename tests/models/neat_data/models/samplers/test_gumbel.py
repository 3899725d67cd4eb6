"""Noise that depends on seed, step and token alone, and samples that follow the softmax."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from neat_data.models.sampler import Sampling
from neat_data.models.samplers.gumbel import draw, gumbel, warped

CPU = torch.device("cpu")
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
WORD, HALF = (1 << 64) - 1, (1 << 32) - 1


def plainly(seed: int, step: int, token: int) -> float:
    """The same noise, written with Python's integers."""

    def splitmix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) & WORD
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
        return x ^ (x >> 31)

    def lowbias(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & HALF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & HALF
        return x ^ (x >> 16)

    key = splitmix(splitmix(seed) + step)
    bits = lowbias((lowbias(token ^ (key >> 32)) + key) & HALF) & 0x7FFFFFFF
    return -math.log(-math.log1p(-(bits + 0.5) / 2**31))


def test_noise_is_the_hash_that_it_says() -> None:
    seeds = [0, 1, 2**63 - 1, 8124093118]
    noise = gumbel(seeds, 17, 1_000, CPU)
    for row, seed in enumerate(seeds):
        for token in (0, 1, 2, 511, 999):
            assert float(noise[row, token]) == pytest.approx(plainly(seed, 17, token), abs=1e-5)


def test_noise_is_standard_gumbel_and_differs_by_seed_step_and_token() -> None:
    noise = gumbel(range(300), 0, 300, CPU)
    assert kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 0.01
    later = gumbel(range(300), 1, 300, CPU)
    shifted = gumbel(range(1, 301), 0, 300, CPU)
    for other in (later, shifted, noise.roll(1, 1), noise.roll(1, 0)):
        assert abs(float(torch.corrcoef(torch.stack((noise.flatten(), other.flatten())))[0, 1])) < 0.02


def test_a_row_of_noise_does_not_know_its_batch_or_the_vocabulary_behind_it() -> None:
    together = gumbel([5, 6, 7], 3, 64, CPU)
    assert torch.equal(together[1], gumbel([6], 3, 64, CPU)[0])
    assert torch.equal(together[:, :10], gumbel([5, 6, 7], 3, 10, CPU))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.6), Sampling(temperature=1.5, top_p=0.8)])
def test_tokens_are_drawn_as_often_as_the_softmax_says(sampling: Sampling) -> None:
    draws = 40_000
    drawn = draw(LOGITS.expand(draws, -1), range(draws), 4, sampling)
    counts = torch.bincount(drawn, minlength=len(LOGITS)).double()
    expected = warped(LOGITS[None], sampling).double().softmax(-1)[0] * draws
    assert not counts[expected == 0].any()
    possible = expected > 0
    assert chisquare(counts[possible].numpy(), expected[possible].numpy()).pvalue > 0.01


def test_temperature_and_top_p_are_those_of_transformers() -> None:
    scores = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    theirs = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopPLogitsWarper(0.9)])
    ids = torch.zeros(20, 1, dtype=torch.long)
    assert torch.equal(warped(scores, Sampling(temperature=0.7, top_p=0.9)), theirs(ids, scores))
    assert torch.equal(warped(scores, Sampling()), scores)


def test_temperature_0_is_greedy_and_top_p_near_0_too() -> None:
    scores = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    for sampling in (Sampling(temperature=0), Sampling(top_p=1e-6)):
        assert torch.equal(draw(scores, range(200), 0, sampling), scores.argmax(-1))
