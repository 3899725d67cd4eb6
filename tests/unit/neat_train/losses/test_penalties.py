"""SimNPO, the penalty of DPO-positive, and the response two standard deviations below the mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neat_train.config.objective import DPOPPenalty, ObjectiveSettings, SFTTerm, SimNPO
from neat_train.losses import Layout, objective, plan_for, plan_of, total

LOGPS = [[-1.0, -0.5, -0.2], [-2.0], [-0.3, -0.4], [-1.5, -1.0], [-0.7]]
REFERENCE = [[-0.8, -0.3, -0.2], [-2.5], [-0.3, -0.1], [-1.0, -1.0], [-0.9]]
RECORDS, REWARDS = [0, 0, 1, 1, 2], [1.0, 0.0, -1.0, 2.0, 0.0]  # the last record has one response


def batch() -> tuple[Layout, torch.Tensor, torch.Tensor]:
    response = torch.tensor([number for number, values in enumerate(LOGPS) for _ in values])
    layout = Layout(response, torch.ones(len(response), dtype=torch.bool), torch.tensor(RECORDS), torch.tensor(REWARDS))
    flat = ([value for values in rows for value in values] for rows in (LOGPS, REFERENCE))
    return layout, *(torch.tensor(values, dtype=torch.float64) for values in flat)


def alone(penalty, reduction="token_mean") -> ObjectiveSettings:
    return ObjectiveSettings(sft=SFTTerm(weight=0), alpha=0, beta=1, penalty=penalty, reduction=reduction)


def loss_of(settings: ObjectiveSettings, logps: torch.Tensor) -> torch.Tensor:
    layout, _, reference = batch()
    plan = plan_for(layout, settings)
    return total(objective(logps, plan, settings, reference), plan.counted(settings), settings)


def by_numpy(settings: ObjectiveSettings) -> float:
    penalty, reduce = settings.penalty, np.mean if settings.reduction == "token_mean" else np.sum
    if isinstance(penalty, SimNPO):
        b = penalty.inverse_temperature
        worst = [np.mean(LOGPS[number]) for number in (1, 2)]
        return float(np.mean([2 / b * math.log1p(math.exp(b * u + penalty.gamma)) for u in worst]))
    return float(np.mean([max(0.0, reduce(REFERENCE[best]) - reduce(LOGPS[best])) for best in (0, 3)]))


@pytest.mark.parametrize("reduction", ["token_mean", "token_sum"])
@pytest.mark.parametrize("penalty", [SimNPO(inverse_temperature=0.5, gamma=0.3), SimNPO(), DPOPPenalty()])
def test_a_penalty_equals_numpy_s_and_its_gradients_finite_differences(penalty, reduction):
    settings, (_, logps, _) = alone(penalty, reduction), batch()
    leaf = logps.clone().requires_grad_()
    loss = loss_of(settings, leaf)
    assert loss.item() == pytest.approx(by_numpy(settings), rel=1e-9)
    loss.backward()
    for place in range(len(logps)):
        step = torch.zeros_like(logps)
        step[place] = 1e-6
        slope = float(loss_of(settings, logps + step) - loss_of(settings, logps - step)) / 2e-6
        assert float(leaf.grad[place]) == pytest.approx(slope, abs=1e-7)


def test_simnpo_needs_no_reference_and_fades_as_the_response_becomes_unlikely():
    settings = alone(SimNPO())
    assert not settings.needs_reference
    assert alone(DPOPPenalty()).needs_reference
    layout, logps, _ = batch()
    plan = plan_for(layout, settings)
    losses = [objective(logps * scale, plan, settings).penalty.sum.item() for scale in (1, 10, 100)]
    assert losses[0] > losses[1] > losses[2] > 0
    assert losses[2] < 1e-8


def test_the_target_two_deviations_down_is_no_outlier_and_never_the_best():
    rewards = [5.0, 4.0, 4.5, 4.2, 4.8, 4.1, 1.0, -20.0, 5.0]
    layout = Layout(
        response=torch.arange(9),
        mask=torch.ones(9, dtype=torch.bool),
        record=torch.zeros(9, dtype=torch.int64),
        reward=torch.tensor(rewards),
    )
    aim = np.mean(rewards) - 2 * np.std(rewards)
    nearest = int(np.argmin(np.abs(np.array(rewards) - aim)))
    assert plan_of(layout, "worst").target.tolist() == [7]
    assert plan_of(layout, "mu-2sigma").target.tolist() == [nearest] != [0]
    equal = Layout(layout.response, layout.mask, layout.record, torch.ones(9))
    assert plan_of(equal, "mu-2sigma").target.tolist() == []
    for number in range(20):  # of few responses it is the worst
        drawn = torch.as_tensor(np.random.default_rng(number).normal(size=4), dtype=torch.float32)
        few = Layout(torch.arange(4), layout.mask[:4], layout.record[:4], drawn)
        assert plan_of(few, "mu-2sigma").target.tolist() == plan_of(few, "worst").target.tolist()
