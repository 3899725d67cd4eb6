"""`python -m pipelines.table2_small --data FOLDER --out FOLDER`: the experiment; the same command goes on with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from neat_data.cli.output import stdout
from pipelines.processes import exit_status_of
from pipelines.table2_small.experiment import Experiment
from pipelines.table2_small.jobs import Workers
from pipelines.table2_small.plans import Models, plan_of
from pipelines.table2_small.sizes import SIZES


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    options = _parser().parse_args(arguments)
    return exit_status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    plan = plan_of(options.size)
    models = Models(
        policy=options.policy or plan.models.policy,
        plain=options.plain_policy or plan.models.plain,
        reward=options.reward_model or plan.models.reward,
        held_out=options.held_out_model or plan.models.held_out,
    )
    workers = Workers(options.out, options.workers, lambda line: print(line, file=sys.stderr, flush=True))
    experiment = Experiment(options.data, options.out, SIZES[options.size], models, workers, plan)
    if not options.table_only:
        experiment.run()
    _show(experiment)


def _show(experiment: Experiment) -> None:
    from neat_data.report.terminal import print_tables
    from neat_train.comparison.tables import fitted
    from pipelines.table2_small.table import write_table

    show = stdout()
    print_tables([part for table in write_table(experiment) for part in fitted(table, show.width)], show)
    print(f"{experiment.out}/table.md, table.json and table.html hold this, the page with curves and answers")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.table2_small", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hh-rlhf-single-turn/ and hh-rlhf/")
    parser.add_argument("--out", type=Path, required=True, help="what all of it is written to")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time; the cores are shared among them")
    parser.add_argument("--table-only", action="store_true", help="the table of what has been evaluated so far")
    parser.add_argument("--policy", help="unset: the size's own, as all models")
    parser.add_argument("--plain-policy", help="never taught the prompts")
    parser.add_argument("--reward-model", help="what trains")
    parser.add_argument("--held-out-model", help="what only measures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
