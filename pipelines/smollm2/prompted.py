"""`python -m pipelines.smollm2.prompted --data FOLDER --out FOLDER`: does the negative prompt work?

Queries of each of HH's test files, answered by SmolLM2 as it is under the prompts of asked.yaml; two reward models
score what came. The same command goes on. What is under `out`:

    rows/{harmless,helpful}.jsonl, {harmless,helpful}    the queries with people's pairs, and the datasets of them
    prompts.json, prompts.md, samples.md                 the figures, and ten queries with all of their answers
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from neat_data.models.reward_adapter import is_adapter
from pipelines.processes import exit_status_of
from pipelines.smollm2.agreement import HELD_OUT
from pipelines.smollm2.answered import write_figures
from pipelines.smollm2.rows import TESTS
from pipelines.table2_small.jobs import Command, Job, Workers
from pipelines.tiny_models.rows import to_pair

PROMPTS, MODELS = Path(__file__).with_name("asked.yaml"), Path("data/models")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.smollm2.prompted", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hh-rlhf/")
    parser.add_argument(
        "--reward-model", type=Path, default=MODELS / "tiny-reward", help="a model, or SmolLM2's adapter"
    )
    parser.add_argument("--held-out-model", type=Path, default=MODELS / "tiny-reward-heldout", help="scores them too")
    parser.add_argument("--out", type=Path, required=True, help="what all of it is written to")
    parser.add_argument("--policy", type=Path, default=Path("data/real/smollm2"), help="what answers")
    parser.add_argument("--queries", type=int, default=500, help="of each test file")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--token-budget", type=int, help="tokens of one batch of answers")
    parser.add_argument("--workers", type=int, default=1, help="test files at a time")
    options = parser.parse_args(arguments)
    return exit_status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    workers = Workers(options.out, options.workers, lambda line: print(line, file=sys.stderr, flush=True))
    prompted = Prompted(
        options.data,
        options.reward_model,
        options.held_out_model,
        options.out,
        options.policy,
        options.queries,
        options.max_new_tokens,
        options.token_budget,
    )
    prompted.prepare()
    workers.run(prompted.jobs())
    write_figures(options.out, prompts())


def prompts() -> list[str]:
    """Names of the prompts."""
    return [prompt["name"] for prompt in yaml.safe_load(PROMPTS.read_text(encoding="utf-8"))["prompts"]]


@dataclass(frozen=True, slots=True)
class Prompted:
    """The experiment under `out`; see the module and its options."""

    data: Path
    reward: Path
    held_out: Path
    out: Path
    policy: Path
    queries: int
    max_new_tokens: int
    token_budget: int | None = None

    def prepare(self) -> None:
        """The rows of the first `queries` queries of each test file, in order of their ids, which are hashes."""
        for kind, name in TESTS.items():
            with gzip.open(self.data / "hh-rlhf" / name, "rt", encoding="utf-8") as lines:
                read = [(to_pair(kind, row["chosen"], row["rejected"]), row) for row in map(json.loads, lines)]
            rows = {pair.query_id: row for pair, row in read if pair.unusable is None}
            (self.out / "rows").mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(rows[query]) + "\n" for query in sorted(rows)[: self.queries])
            self._rows(kind).write_text(text, encoding="utf-8")

    def jobs(self) -> list[Job]:
        """One a test file."""
        return [Job(f"prompted-{kind}", self._commands(kind)) for kind in TESTS]

    def _commands(self, kind: str) -> tuple[Command, ...]:
        folder = str(self.out / kind)
        budget = ("--token-budget", str(self.token_budget)) if self.token_budget else ()
        return (
            (
                *("neat_data", "score", str(self._rows(kind)), "--out", folder, "--quiet"),
                *("--reward-model", str(self.reward), *self._base(self.reward)),
            ),
            (
                *("neat_data", "expand", folder, "--policy", str(self.policy), "--prompts", str(PROMPTS)),
                *("--max-new-tokens", str(self.max_new_tokens), *budget, "--quiet"),
            ),
            (
                *("neat_data", "rescore", folder, "--name", HELD_OUT, "--quiet"),
                *("--reward-model", str(self.held_out), *self._base(self.held_out)),
            ),
        )

    def _base(self, reward: Path) -> Command:
        """What names the model of an adapter, which is the one that answers."""
        return ("--base", str(self.policy)) if is_adapter(reward) else ()

    def _rows(self, kind: str) -> Path:
        return self.out / "rows" / f"{kind}.jsonl"


if __name__ == "__main__":
    sys.exit(main())
