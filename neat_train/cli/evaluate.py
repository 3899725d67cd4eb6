"""`neat-train eval`."""

from __future__ import annotations

import typer

from neat_data.cli.command import verb
from neat_data.cli.output import Output
from neat_train.arguments import eval_request
from neat_train.config.verbs import Evaluate


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("eval")(eval_verb)


@verb
def eval_verb(options: Evaluate, output: Output) -> None:
    """Measure a run or a model: perplexity, rewards of its answers, KL from its start, length, diversity, harm.

    The same command again goes on where an earlier one stopped, and shows the figures where it did not.
    """
    from neat_train.evaluation.evaluate import evaluate
    from neat_train.evaluation.terminal import print_eval_summary

    request = eval_request(options)
    with output.watcher() as watch:
        summary = evaluate(request, watch)
    output.show(summary, print_eval_summary)
