"""`python -m pipelines.selection --data FOLDER --out FOLDER`: which pairs to keep; the same command goes on with it.

`--settings pipelines/selection/methods.yaml` sets every method beside each other instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from neat_data.cli.output import stdout
from neat_data.errors import InputError
from pipelines.processes import exit_status_of
from pipelines.selection.experiment import Arms
from pipelines.table2_small.jobs import Workers

MODELS, SETTINGS = Path("data/models"), Path(__file__).with_name("selection.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    options = _parser().parse_args(arguments)
    return exit_status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    workers = Workers(options.out, options.workers, lambda line: print(line, file=sys.stderr, flush=True))
    experiment = Arms(
        *(options.data, options.out, options.policy, options.reward_model, options.held_out_model),
        *(yaml.safe_load(options.settings.read_text()), options.size, workers),
    )
    if not options.table_only:
        experiment.run()
    report(experiment)


def report(experiment: Arms) -> None:
    """Write table.json, table.md and table.html, and print the tables: each arm against the control, if there is one.

    Raises:
        InputError: nothing has been evaluated.
    """
    from neat_data.report.terminal import print_tables
    from neat_train.comparison.compare import compare
    from neat_train.comparison.markdown import write_markdown
    from neat_train.comparison.page import write_report
    from neat_train.comparison.result import Hypothesis
    from neat_train.comparison.tables import fitted, tables
    from pipelines.table2_small.table import figures_alone

    arms, control = experiment.evaluations(), experiment.settings.get("control")
    if not arms:
        raise InputError(f"{experiment.out}: holds no evaluated run; without --table-only they are made")
    asked = [Hypothesis(control, name) for name in experiment.arms if name != control and {control, name} <= set(arms)]
    comparison = compare(arms, hypotheses=asked, examples=0)
    (experiment.out / "table.json").write_text(json.dumps(figures_alone(comparison), indent=1) + "\n")
    write_markdown(tables(comparison), experiment.out / "table.md")
    write_report(comparison, experiment.out / "table.html")
    show = stdout()
    print_tables([part for table in tables(comparison) for part in fitted(table, show.width)], show)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.selection", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hh-rlhf-single-turn/ and hh-rlhf/")
    parser.add_argument("--out", type=Path, required=True, help="what all of it is written to")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="the arms: selection.yaml or methods.yaml")
    parser.add_argument("--size", choices=["tiny", "small"], default="small")
    parser.add_argument("--workers", type=int, default=2, help="jobs at a time; the cores are shared among them")
    parser.add_argument("--table-only", action="store_true", help="the table of what has been evaluated so far")
    parser.add_argument("--policy", default=str(MODELS / "tiny-policy"), help="what is trained")
    parser.add_argument("--reward-model", default=str(MODELS / "tiny-reward"), help="whose gaps choose and train")
    parser.add_argument("--held-out-model", default=str(MODELS / "tiny-reward-heldout"), help="what only measures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
