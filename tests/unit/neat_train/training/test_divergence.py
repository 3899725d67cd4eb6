"""The guard stops a run that diverges and says what to change; it warns once when best and worst fall together."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from neat_data.errors import InputError, RunError
from neat_train.config.objective import Likelihood, ObjectiveSettings
from neat_train.training.divergence import Diverged, DivergenceGuard


def guard(said: list[str] | None = None, **settings) -> DivergenceGuard:
    return DivergenceGuard(ObjectiveSettings(**settings), (said if said is not None else []).append)


def run(watched: DivergenceGuard, best: Callable[[int], float], worst: Callable[[int], float]) -> None:
    for step in range(1, 150):
        watched.check(step, 1.0, best(step), worst(step))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run(loss):
    with pytest.raises(RunError, match=r"step 7: the loss is .*a loss.beta below 0.1 or a smaller learning_rate"):
        guard().check(7, loss, -1.0, -2.0)


def test_a_run_that_diverges_has_an_exit_status_of_its_own():
    with pytest.raises(Diverged) as caught:
        guard().check(1, math.nan, None, None)
    assert caught.value.exit_status not in {0, RunError.exit_status, InputError.exit_status}


def test_a_gradient_that_is_no_number_stops_the_run():
    watched = guard(beta=0)
    watched.check_gradient(1, 3.0)
    with pytest.raises(RunError, match=r"step 2: the gradient's norm is nan. Say a smaller learning_rate"):
        watched.check_gradient(2, math.nan)


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_an_overflow_that_a_gradient_scaler_mends_stops_nothing(norm):
    watched = guard(beta=0)
    for step in range(1, 17):
        watched.check_gradient(step, norm, scale=2.0 ** (17 - step))  # 65,536 at first, halved by each of them
    with pytest.raises(RunError, match=r"step 17: the gradient's norm is"):
        watched.check_gradient(17, norm, scale=1.0)


def test_the_best_responses_collapse_stops_the_run():
    with pytest.raises(RunError, match=r"collapses: the best responses' log-probability fell from -1.45 to -4"):
        run(guard(), best=lambda step: -1.0 - 0.1 * (step - 1), worst=lambda _: -2.0)


def test_a_likelihood_penalty_that_runs_away_names_the_bounded_ones():
    with pytest.raises(RunError) as caught:
        run(guard(penalty=Likelihood(), beta=3), best=lambda _: -1.0, worst=lambda step: -1.0 - step)
    assert "the penalty runs away" in str(caught.value)
    assert "loss.penalty.kind=npo, or a loss.beta below 3" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_a_bounded_penalty_may_push_the_worst_as_far_as_it_goes():
    run(guard(), best=lambda _: -1.0, worst=lambda step: -1.0 - step)


def test_one_warning_when_both_fall_and_the_margin_grows():
    said: list[str] = []
    run(guard(said), best=lambda step: -1.0 - 0.01 * step, worst=lambda step: -2.0 - 0.05 * step)
    assert len(said) == 1
    assert "both become less likely" in said[0]


def test_steps_of_other_records_are_no_fall():
    said: list[str] = []
    jumps = (0.3, -0.2, -0.4, 0.1, 0.2)
    run(guard(said), best=lambda step: -3.5 + jumps[step % 5], worst=lambda step: -3.7 - 0.004 * step + jumps[step % 5])
    assert said == []


def test_no_warning_when_the_best_rises_or_a_step_has_no_two_rewards():
    said: list[str] = []
    watched = guard(said)
    run(watched, best=lambda step: -1.0 + 0.01 * step, worst=lambda step: -2.0 - 0.05 * step)
    watched.check(200, 1.0, None, None)
    assert said == []
