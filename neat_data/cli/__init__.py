"""The verbs of `neat-data`: parse, call, print. Nothing here computes; each module adds its verbs to `app`."""

from __future__ import annotations

from neat_data.cli import compact, expand, export, look, rescore, rounds, score
from neat_data.verb import command

app = command(
    "Build preference datasets: score them, see how far apart responses are, grow them, hand them on.",
    score,
    expand,
    rounds,
    look,
    export,
    rescore,
    compact,
)


def main() -> None:
    """The console script `neat-data`."""
    app()
