"""The verbs of `neat-data`: parse, call, print. Nothing here computes; each module adds its verbs to `app`."""

from __future__ import annotations

from neat_data.cli import derive, expand, export, inspect, review, score
from neat_data.cli.command import command

app = command(
    "Build preference datasets: score them, see how far apart responses are, grow them, hand them on.",
    score,
    expand,
    inspect,
    review,
    export,
    derive,
)


def main() -> None:
    """The console script `neat-data`."""
    app()
