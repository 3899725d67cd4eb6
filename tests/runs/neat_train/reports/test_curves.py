"""The curves of a run: every figure that was logged is drawn, whatever the method and however long the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import polars as pl
import pytest

from neat_train.reports.curves import PANELS, draw, round_rewards, series, smooth

Rows = list[dict[str, float]]


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[Rows], Path]:
    def make(rows: Rows) -> Path:
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return make


def trained(step: int) -> dict[str, float]:
    names = ("loss", "sft", "ranking", "penalty", "best_logp", "worst_logp", "ranking_accuracy", "grad_norm")
    draws = np.random.default_rng(step)
    return {"step": step, "epoch": step / 10, "learning_rate": 5e-5, **{name: draws.random() for name in names}}


def measured(step: int) -> dict[str, float]:
    reward = -2 + step / 100
    ends = {"eval_reward_low": reward - 0.2, "eval_reward_high": reward + 0.2}
    return {"step": step, "epoch": step / 10, "eval_reward": reward, "eval_perplexity": 14.0, "eval_length": 40, **ends}


def size(picture: Path) -> tuple[int, int]:
    pixels = matplotlib.image.imread(picture)
    assert pixels[..., :3].std() > 0.02  # there is something on it
    return pixels.shape[1], pixels.shape[0]


@pytest.mark.parametrize("steps", [1, 39, 2_000, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (3, 40))])
def test_a_run_of_any_length_is_drawn_at_one_size(steps, run_of):
    rows = [measured(0), *(trained(step) for step in range(1, steps + 1)), measured(steps)]
    assert size(draw(run_of(rows))) == (2016, 1218)


def test_panels_without_a_figure_are_left_out(run_of):
    assert size(draw(run_of([measured(0)]))) == (2016, 406)
    assert size(draw(run_of([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]))) == (672, 406)


def test_a_run_that_has_logged_nothing_yet_says_so(run_of, tmp_path):
    assert size(draw(run_of([]))) == (672, 406)
    (tmp_path / "metrics.jsonl").unlink()
    assert draw(tmp_path).exists()


def test_dpo_is_drawn_by_the_names_that_trl_gives(run_of):
    rows = [{"step": s, "logps/chosen": -9.0, "logps/rejected": -8.0, "rewards/accuracies": 0.5} for s in (1, 2)]
    assert size(draw(run_of(rows))) == (1344, 406)


def test_the_same_metrics_give_the_same_picture(run_of):
    run = run_of([measured(0), trained(1)])
    first = draw(run).read_bytes()
    assert draw(run).read_bytes() == first


def test_names_of_prompts_and_gaps_do_no_harm(run_of):
    """A formula of matplotlib begins with a dollar; a figure may be missing from some rows, or not finite."""
    rows = [{"step": s, "round/reward/cheap $\\frac{$ _x": None if s == 2 else -1.0, "loss": None} for s in (1, 2, 3)]
    assert size(draw(run_of(rows)))


def test_values_stand_at_the_steps_they_were_logged_at():
    frame = pl.DataFrame({"step": [1, 2, 2, 3], "loss": [1.0, 2.0, None, 4.0]})
    steps, values = series(frame, "loss")
    assert (steps.tolist(), values.tolist()) == ([1, 2, 3], [1.0, 2.0, 4.0])
    assert len(series(frame, "nothing")[0]) == 0


def test_smoothing_keeps_a_constant_a_slope_and_the_length():
    assert smooth(np.full(1_000, 3.0)).tolist() == [3.0] * 1_000
    slope = np.arange(1_000.0)
    np.testing.assert_allclose(smooth(slope)[100:-100], slope[100:-100])
    noise = np.random.default_rng(0).normal(size=1_000)
    assert smooth(noise).std() < 0.3 * noise.std()


def test_every_column_of_a_round_s_rewards_has_its_prompt_s_name():
    columns = ["step", "round/reward/negative", "round/responses", "round/reward/positive"]
    assert round_rewards(columns) == [("round/reward/negative", "negative"), ("round/reward/positive", "positive")]


def test_no_figure_is_drawn_twice():
    columns = [line.column for panel in PANELS for line in panel.lines]
    assert len(columns) == len(set(columns))
