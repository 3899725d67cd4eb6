"""The verbs of `neat-train`: parse, call, print. Nothing here computes; each module adds its verbs to `app`."""

from __future__ import annotations

from neat_data.cli.command import command
from neat_train.cli import compare, evaluate, export, fit, judge
from neat_train.training.launch import leaving_for_good

app = command(
    "Train a policy on a preference dataset, by negative prompts (NEAT) and the methods it is compared with.",
    fit,
    evaluate,
    export,
    compare,
    judge,
)


def main() -> None:
    """The console script `neat-train`."""
    with leaving_for_good():
        app()
