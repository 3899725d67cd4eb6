"""A sampler that serves other weights than those in training is found out, and the run stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from neat_data.errors import RunError
from neat_data.models.sampler import Sampler
from neat_train.policy.policy import Policy
from neat_train.rounds import online
from neat_train.rounds.live_sampler import LiveModel
from tests.support.online import Run, put, scored_dataset, trained


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_dataset(tmp_path_factory.mktemp("served"))


class Stale(LiveModel):
    """Samples with the weights that it was given, whatever the policy has become."""

    weights: dict[str, torch.Tensor] | None = None

    @contextmanager
    def now(self, trained: str) -> Iterator[Any]:
        with super().now(trained) as sampler:
            yield sampler if self.weights is None else _Swapped(sampler, self._policy, self.weights)


class _Swapped:
    def __init__(self, sampler: Sampler, policy: Policy, weights: dict[str, torch.Tensor]) -> None:
        self._sampler, self._policy, self._weights = sampler, policy, weights

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def sample(self, asks: Any, **options: Any) -> Any:
        now = copied(self._policy)
        put(self._policy, self._weights)
        try:
            return self._sampler.sample(asks, **options)
        finally:
            put(self._policy, now)


def copied(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trained(policy).items()}


def shaken(policy: Policy, seed: int) -> None:
    """Another adapter, far enough off that its samples tell."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in trained(policy).values():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))


@pytest.fixture
def run(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(online, "live", lambda policy, settings, folder, ranks: Stale(policy, settings))
    monkeypatch.setattr(Stale, "weights", None)
    return Run.of(dataset, tmp_path / "run")


def test_the_policy_itself_agrees_with_the_loss(run: Run) -> None:
    source = run.source()
    for step in range(2):
        source.step(step)
        assert 0 <= source.metrics()["round/logp_difference"] < 1e-4
        shaken(run.policy, step)


def test_a_sampler_without_the_adapter_stops_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    start = copied(run.policy)
    shaken(run.policy, 1)
    now = copied(run.policy)
    monkeypatch.setattr(Stale, "weights", start)
    with pytest.raises(RunError, match="block 0: the sampler's log-probabilities") as caught:
        run.source().step(0)
    assert "likely served: the weights that the run began with" in str(caught.value)
    assert all(torch.equal(weight, now[name]) for name, weight in copied(run.policy).items())
    assert not list((run.folder / "online").glob("*.samples.arrow")), "nothing of it is kept"


def test_a_stale_adapter_stops_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shaken(run.policy, 1)
    source = run.source()
    source.step(0)
    before = copied(run.policy)
    shaken(run.policy, 2)
    now = copied(run.policy)
    monkeypatch.setattr(Stale, "weights", before)
    with pytest.raises(RunError, match="block 1: ") as caught:
        source.step(1)
    assert "likely served: the weights of the block before" in str(caught.value)
    assert all(torch.equal(weight, now[name]) for name, weight in copied(run.policy).items())


def test_weights_that_nobody_knows_are_said_to_be_unknown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shaken(run.policy, 1)
    strange = copied(run.policy)
    shaken(run.policy, 2)
    monkeypatch.setattr(Stale, "weights", strange)
    with pytest.raises(RunError, match="fits no other weights known here"):
        run.source().step(0)


def test_without_a_limit_the_difference_is_told_alone(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "live", lambda policy, settings, folder, ranks: Stale(policy, settings))
    run = Run.of(dataset, tmp_path / "run", rounds={"logp_limit": None})
    monkeypatch.setattr(Stale, "weights", copied(run.policy))
    shaken(run.policy, 1)
    source = run.source()
    source.step(0)
    assert source.metrics()["round/logp_difference"] > 0.1
