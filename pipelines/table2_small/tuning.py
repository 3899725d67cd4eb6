"""Tuning: which settings an arm's trials have, and which trial is taken.

Every arm has the same number of trials and the same learning rates; its other settings are drawn beside them by a
Latin hypercube. The trial with the highest validation reward, by the model that trains, is taken among those that
stayed near the start: neither the held-out model nor a test query has a say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from neat_data.errors import RunError
from pipelines.table2_small.arms import Arm

PERPLEXITY_CAP = 1.25  # times the start's
KL_CAP = 0.5  # nats a token, from the start


def trials(arm: Arm, count: int, learning_rates: tuple[float, float]) -> list[dict[str, Any]]:
    """Settings of every trial: learning rates spread evenly over the logarithm, each with a draw of the others.

    >>> [trial["learning_rate"] for trial in trials(Arm("a", "sft"), 2, (2e-4, 5e-3))]
    [0.000447, 0.00224]
    """
    low, high = learning_rates
    rates = [float(f"{low * (high / low) ** ((number + 0.5) / count):.3g}") for number in range(count)]
    draws = qmc.LatinHypercube(d=max(1, len(arm.tuned)), rng=0).random(count)
    return [{"learning_rate": rate, **_drawn(arm, row)} for rate, row in zip(rates, draws, strict=True)]


def _drawn(arm: Arm, row: np.ndarray) -> dict[str, Any]:
    """`row` holds a number in [0, 1) for each setting that is tuned."""
    return {
        name: choices[int(share * len(choices))] for (name, choices), share in zip(arm.tuned.items(), row, strict=False)
    }


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one trial.

    Attributes:
        failed: training stopped by itself, and there is nothing to measure.
        reward, perplexity, kl: None where it could not be measured (no answer had a reward, say).
    """

    arm: str
    number: int
    settings: Mapping[str, Any]
    failed: bool
    reward: float | None = None
    perplexity: float | None = None
    kl: float | None = None

    def near(self, start: float) -> bool:
        """Whether it stayed under both caps; `start` is the perplexity there."""
        if self.perplexity is None or self.kl is None:
            return False
        return self.perplexity <= PERPLEXITY_CAP * start and self.kl <= KL_CAP


def read_trial(arm: str, number: int, settings: Mapping[str, Any], evaluation: Path, reward_model: str) -> Trial:
    """The trial as its eval.json has it."""
    if not (file := evaluation / "eval.json").is_file():
        return Trial(arm, number, settings, failed=True)
    document = json.loads(file.read_bytes())
    sampled, perplexity = document["decodings"]["sampled"], document["perplexity"]
    kl = sampled.get("kl")
    return Trial(
        arm,
        number,
        settings,
        failed=False,
        reward=sampled["rewards"][reward_model]["mean"]["value"],
        perplexity=perplexity and perplexity["value"],
        kl=kl and kl["per_token"]["value"],
    )


def best(tried: Sequence[Trial], start: float) -> Trial:
    """The highest reward under the caps; where no trial is under them, the lowest perplexity.

    A trial without a reward or a perplexity is not taken.

    Raises:
        RunError: every trial failed, or has no such figure.
    """
    measured = [
        (trial, trial.reward, trial.perplexity)
        for trial in tried
        if trial.reward is not None and trial.perplexity is not None
    ]
    if not measured:
        arm = tried[0].arm
        raise RunError(f"every trial of {arm} failed or has no reward; their logs are in jobs/tune-{arm}-*.log")
    near = [(trial, reward) for trial, reward, _ in measured if trial.near(start)]
    if not near:
        return min(measured, key=lambda one: one[2])[0]
    return max(near, key=lambda one: one[1])[0]
