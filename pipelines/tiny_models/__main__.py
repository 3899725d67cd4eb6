"""`python -m pipelines.tiny_models --data FOLDER --out data/models`: train, publish, measure, write the cards."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from neat_data.errors import NeatError
from pipelines.tiny_models.cards import write_cards
from pipelines.tiny_models.measure import measure
from pipelines.tiny_models.splits import write_ids
from pipelines.tiny_models.steps import Workshop, publish, run_steps


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.tiny_models", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hh-rlhf-single-turn/ and hh-rlhf/")
    parser.add_argument("--out", type=Path, default=Path("data/models"), help="where the models are published")
    parser.add_argument("--work", type=Path, default=Path("runs/tiny_models"), help="what finished steps leave")
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_name("settings.yaml"))
    options = parser.parse_args(arguments)
    settings = yaml.safe_load(options.settings.read_text())
    try:
        build(
            Workshop(options.data, options.work, settings, lambda line: print(line, file=sys.stderr, flush=True)),
            options.out,
        )
    except NeatError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def build(shop: Workshop, out: Path) -> None:
    """Everything, from rows to cards."""
    run_steps(shop)
    publish(shop, out)
    for name, pairs in shop.sets.items():
        write_ids(out / "splits" / f"{name}.txt.gz", (pair.query_id for pair in pairs))
    figures = measure(shop, out)
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    write_cards(out, figures, shop.settings)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
