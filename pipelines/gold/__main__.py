"""`python -m pipelines.gold --train DATASET --out FOLDER`: over-optimisation made visible; the same command goes on."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from pipelines.gold.experiment import SETTINGS, Gold
from pipelines.processes import exit_status_of
from pipelines.table2_small.jobs import Workers

MODELS = Path("data/models")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    options = _parser().parse_args(arguments)
    return exit_status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    settings = yaml.safe_load(SETTINGS.read_text())
    workers = Workers(options.out, options.workers, lambda line: print(line, file=sys.stderr, flush=True))
    experiment = Gold(
        options.train, options.policy, options.proxy_body, options.gold, options.out, settings, options.size, workers
    )
    experiment.run()
    report(experiment)


def report(experiment: Gold) -> None:
    """Write gold.json and gold.png, and print the curves."""
    from pipelines.gold.picture import draw
    from pipelines.gold.result import result_of

    result = result_of(experiment)
    (experiment.out / "gold.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    draw(result, experiment.out / "gold.png")
    print("\n".join(lines_of(result)))


def lines_of(result: dict[str, Any]) -> list[str]:
    """A line a point: how far from the start, and both rewards."""
    lines = [f"{'':24}{'KL':>8}{'proxy':>8}{'gold':>8}"]
    places = [(f"best of {one['n']}", one["kl"], one) for one in result["best_of_n"]]
    for name, arm in result["arms"].items():
        places += [(f"{name}, step {one['step']}", one["kl"]["value"], one) for one in arm["points"] if one["step"]]
    for name, kl, one in places:
        lines.append(f"{name:24}{kl:8.2f}{one['proxy']['value']:8.2f}{one['gold']['value']:8.2f}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.gold", description=__doc__)
    parser.add_argument("--train", required=True, help="a dataset that the gold model has scored")
    parser.add_argument("--out", type=Path, required=True, help="what all of it is written to")
    parser.add_argument("--gold", default=str(MODELS / "tiny-reward"), help="the reward model that plays the human")
    parser.add_argument("--policy", default=str(MODELS / "tiny-policy"), help="what the arms start from")
    parser.add_argument("--proxy-body", default=str(MODELS / "tiny-policy-plain"), help="what the proxy begins as")
    parser.add_argument("--size", choices=["tiny", "small"], default="small")
    parser.add_argument("--workers", type=int, default=2, help="jobs at a time; the cores are shared among them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
