"""The reward model's loss against numbers worked out by hand, a second implementation in numpy, and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neat_train.config.reward import RewardSettings
from neat_train.losses.reward_model import Labels, loss_of

PLAIN = RewardSettings(centre=0.0)


def labels(orders: list[list[int]], given: list[float] | None = None, count: int = 5, **verdicts: list[int]) -> Labels:
    longest = max(map(len, orders), default=2)
    padded = [[*order, *[-1] * (longest - len(order))] for order in orders]
    numbers = {name: torch.tensor(verdicts.get(name, []), dtype=torch.int64) for name in ("accepted", "rejected")}
    return Labels(
        orders=torch.tensor(padded, dtype=torch.int64).reshape(-1, longest),
        given=torch.tensor(given or [0.0] * count),
        **numbers,
    )


def by_numpy(scores: np.ndarray, order: list[int], settings: RewardSettings, given: np.ndarray) -> float:
    """One label's loss, pair by pair and place by place."""

    def margin(i: int, j: int) -> float:
        return settings.margin * max(0.0, given[i] - given[j])

    if settings.lists == "plackett-luce":
        loss = sum(
            math.log(sum(math.exp(scores[j] + (margin(i, j) if i != j else 0.0)) for j in order[place:])) - scores[i]
            for place, i in enumerate(order)
        )
    else:
        parts = []
        for place, i in enumerate(order):
            for j in order[place + 1 :]:
                doubt = settings.soft / (1 + math.exp(given[i] - given[j]))
                d = scores[i] - scores[j] - margin(i, j)
                parts.append((1 - doubt) * math.log1p(math.exp(-d)) + doubt * math.log1p(math.exp(d)))
        loss = float(np.mean(parts))
    listed = scores[order]
    centred = settings.centre * (2 * listed.mean()) ** 2
    return loss + centred + settings.regression * float(((listed - given[order]) ** 2).mean())


def test_a_pair_apart_by_a_logit_of_three() -> None:
    scores = torch.tensor([math.log(3.0), 0.0])
    assert loss_of(scores, labels([[0, 1]], count=2), PLAIN).item() == pytest.approx(math.log(4 / 3))


def test_of_a_pair_both_kinds_are_one() -> None:
    scores = torch.randn(2, generator=torch.Generator().manual_seed(0))
    pair = labels([[1, 0]], [0.5, 2.0], count=2)
    kinds = (RewardSettings(lists=kind, margin=0.7) for kind in ("plackett-luce", "bradley-terry"))
    first, second = (loss_of(scores, pair, settings).item() for settings in kinds)
    assert first == pytest.approx(second, abs=1e-6)


def test_verdicts_are_asked_of_the_sign() -> None:
    scores = torch.tensor([math.log(3.0), math.log(3.0)])
    found = loss_of(scores, labels([], count=2, accepted=[0], rejected=[1]), PLAIN)
    assert found.item() == pytest.approx(math.log(4 / 3) + math.log(4))


@pytest.mark.parametrize(
    "settings",
    [
        RewardSettings(),
        RewardSettings(margin=0.8, centre=0.3),
        RewardSettings(lists="bradley-terry", soft=0.4, regression=0.5),
        RewardSettings(lists="bradley-terry", margin=1.5),
    ],
)
def test_lists_of_several_lengths_equal_numpy(settings: RewardSettings) -> None:
    generator = torch.Generator().manual_seed(1)
    scores, given = (torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2))
    orders = [[2, 0, 4], [1, 3], [4, 3, 2, 1, 0], [0, 1]]
    found = loss_of(scores, labels(orders, given.tolist()), settings)
    wanted = sum(by_numpy(scores.numpy(), order, settings, given.float().double().numpy()) for order in orders)
    assert found.item() == pytest.approx(wanted, abs=1e-6)


def test_of_what_has_no_reward_the_label_decides_alone() -> None:
    scores, given = torch.tensor([3.0, 1.0, 2.0]), [1.0, math.nan, 4.0]
    plain, pair = loss_of(scores, labels([[0, 1]], count=3), PLAIN).item(), labels([[0, 1]], given)
    for lists in ("plackett-luce", "bradley-terry"):
        assert loss_of(scores, pair, RewardSettings(centre=0, lists=lists, margin=2.0)).item() == pytest.approx(plain)
    assert loss_of(scores, pair, RewardSettings(centre=0, lists="bradley-terry", soft=0.5)).item() == (
        pytest.approx(plain)
    )
    regression = loss_of(scores, pair, RewardSettings(centre=0, regression=0.5)).item()
    assert regression == pytest.approx(plain + 0.5 * (3.0 - 1.0) ** 2)  # of the one whose reward is known
    whole = loss_of(scores, labels([[2, 0]], given), RewardSettings(centre=0, margin=2.0)).item()
    assert whole == pytest.approx(math.log1p(math.exp(-(2.0 - 3.0 - 2.0 * (4.0 - 1.0)))))


def test_the_gradient_is_that_of_differences() -> None:
    scores = torch.randn(5, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    said = labels([[2, 0, 4], [1, 3]], [0.0, 1.0, 2.0, 0.5, 1.0], accepted=[3], rejected=[0])
    settings = RewardSettings(margin=0.5)
    assert torch.autograd.gradcheck(lambda values: loss_of(values, said, settings), (scores,))


def test_a_batch_without_a_label_hangs_on_the_graph() -> None:
    scores = torch.ones(1, requires_grad=True)
    loss = loss_of(scores, labels([], count=1), PLAIN)
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert scores.grad.item() == 0.0
