"""How often the 95 % intervals of `neat_train.statistics` hold the truth, in simulated comparisons where it is known.

    python benchmarks/interval_coverage.py [--comparisons 1000] [--n 300] [--out FILE.json]

Each comparison draws n queries anew from a law whose true figure is known, and asks whether the interval holds it: win
rates from verdicts of several kinds of judge, mean rewards and paired differences of rewards with normal, skewed and
heavy tails. The goal is 93 to 97 % of them: of 1,000, chance alone spreads a true 95 % from 93.6 to 96.4.

Beside them, without a goal and a fifth as often, stand the length-controlled win rate and the two-level bootstrap over
three and five seeds, whose queries are the same: with so few seeds its width depends on how much of the spread is the
seeds'. What was measured is written at once; running again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy.special import expit

from neat_train.judging.length_control import length_controlled
from neat_train.statistics import Interval, mean_interval, paired_difference, two_level_difference, win_rate

GOAL = (0.93, 0.97)
Draws = np.random.Generator
Comparison = Callable[[Draws, int], tuple[Interval, float]]


def main() -> None:
    options = _options()
    results = _open(options)
    for part, comparisons in (("held", HELD), ("beside", BESIDE)):
        for name, comparison in comparisons.items():
            if name not in results[part]:
                results[part][name] = _coverage(comparison, results["settings"][part], options.n)
                options.out.write_text(json.dumps(results, indent=2) + "\n")
            held = results[part][name]
            print(f"{held['coverage']:7.1%}  width {held['mean_width']:.4f}  {name}", flush=True)
    within = all(GOAL[0] <= held["coverage"] <= GOAL[1] for held in results["held"].values())
    print("all within the goal" if within else "NOT all within the goal")


def _open(options: argparse.Namespace) -> dict[str, Any]:
    """Results of the same settings that were begun earlier, or new ones."""
    settings = {"n": options.n, "goal": list(GOAL), "held": options.comparisons, "beside": options.comparisons // 5}
    begun = json.loads(options.out.read_text()) if options.out.exists() else {}
    if begun.get("settings") == settings:
        return begun
    versions = {"numpy": np.__version__, "scipy": scipy.__version__}
    return {"settings": settings, "versions": versions, "held": {}, "beside": {}}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1_000)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/interval_coverage.json"))
    return parser.parse_args()


def _coverage(comparison: Comparison, comparisons: int, n: int) -> dict[str, float]:
    intervals = [comparison(np.random.default_rng(seed), n) for seed in range(comparisons)]
    covered = np.mean([interval.low <= truth <= interval.high for interval, truth in intervals])
    return {
        "coverage": float(covered),
        "mean_width": float(np.mean([interval.high - interval.low for interval, _ in intervals])),
    }


def _verdicts(win: float, lose: float) -> Comparison:
    def comparison(draws: Draws, n: int) -> tuple[Interval, float]:
        return win_rate(*map(int, draws.multinomial(n, [win, lose, 1 - win - lose]))), (1 + win - lose) / 2

    return comparison


def _mean(draw: Callable[[Draws, int], np.ndarray], truth: float) -> Comparison:
    return lambda draws, n: (_some(mean_interval(draw(draws, n))), truth)


def _paired(draw: Callable[[Draws, int], np.ndarray], truth: float) -> Comparison:
    """Two answers to each query, which share how hard it is."""

    def comparison(draws: Draws, n: int) -> tuple[Interval, float]:
        query = draws.normal(0, 3, n)
        paired = paired_difference(query + draw(draws, n), query + draws.normal(0, 1, n))
        return _some(paired and paired[0]), truth

    return comparison


def _at_equal_length(draws: Draws, n: int) -> tuple[Interval, float]:
    """A judge that likes length, asked in both orders, so that a third of the pairs tie."""
    longer = draws.normal(30, 100, n)
    chances = expit(0.4 + np.tanh(longer / longer.std()))
    return _some(length_controlled((draws.random((2, n)) < chances).mean(axis=0), longer)), float(expit(0.4))


def _seeds(count: int, spread: float) -> Comparison:
    """Two arms that are the same, of `count` seeds; queries and noise have a deviation of 1, seeds of `spread`."""

    def comparison(draws: Draws, n: int) -> tuple[Interval, float]:
        query = draws.normal(0, 1, n)
        a, b = ([query + draws.normal(0, spread) + draws.normal(0, 1, n) for _ in range(count)] for _ in range(2))
        paired = two_level_difference(a, b)
        return _some(paired and paired[0]), 0.0

    return comparison


def _some(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


HELD = {
    "win rate: 55 / 35 / 10 %": _verdicts(0.55, 0.35),
    "win rate: 80 / 7 / 13 %, the paper's": _verdicts(0.80, 0.07),
    "win rate: 50 / 50 / 0 %": _verdicts(0.50, 0.50),
    "win rate: 6 / 4 / 90 %, a judge that mostly ties": _verdicts(0.06, 0.04),
    "mean reward: normal": _mean(lambda draws, n: draws.normal(-3, 2, n), -3.0),
    "mean reward: skewed (gamma 2)": _mean(lambda draws, n: draws.gamma(2, 1, n), 2.0),
    "mean reward: heavy tails (t 4)": _mean(lambda draws, n: draws.standard_t(4, n), 0.0),
    "paired difference: normal": _paired(lambda draws, n: draws.normal(0.2, 1, n), 0.2),
    "paired difference: skewed (gamma 2)": _paired(lambda draws, n: draws.gamma(2, 1, n), 2.0),
}
BESIDE = {
    "length-controlled win rate": _at_equal_length,
    "two arms of 3 seeds, seeds alike": _seeds(3, 0.0),
    "two arms of 3 seeds, deviation of seeds 0.1": _seeds(3, 0.1),
    "two arms of 3 seeds, deviation of seeds 0.5": _seeds(3, 0.5),
    "two arms of 5 seeds, deviation of seeds 0.1": _seeds(5, 0.1),
    "two arms of 5 seeds, deviation of seeds 0.5": _seeds(5, 0.5),
}

if __name__ == "__main__":
    main()
