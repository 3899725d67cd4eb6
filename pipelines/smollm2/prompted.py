"""`python -m pipelines.smollm2.prompted --data FOLDER --rewards FOLDER --out FOLDER`: does the negative prompt work?

500 queries of each of HH's test files, answered by SmolLM2 as it is under the prompts of asked.yaml; both reward
models score what came. The same command goes on. What is under `out`:

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

from pipelines.processes import exit_status_of
from pipelines.smollm2.agreement import HELD_OUT
from pipelines.smollm2.answered import write_figures
from pipelines.smollm2.reward import SHIPPED
from pipelines.smollm2.rows import TESTS
from pipelines.table2_small.jobs import Command, Job, Workers
from pipelines.tiny_models.rows import to_pair

PROMPTS = Path(__file__).with_name("asked.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.smollm2.prompted", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hh-rlhf/")
    parser.add_argument("--rewards", type=Path, default=Path("data/models"), help="folder with both reward models")
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
        options.rewards,
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
    rewards: Path
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
        folder, base = str(self.out / kind), ("--base", str(self.policy), "--quiet")
        a, b = (str(self.rewards / SHIPPED[name]) for name in ("a", "b"))
        budget = ("--token-budget", str(self.token_budget)) if self.token_budget else ()
        asked = (
            *("neat_data", "expand", folder, "--policy", str(self.policy), "--prompts", str(PROMPTS)),
            *("--max-new-tokens", str(self.max_new_tokens), *budget, "--quiet"),
        )
        return (
            ("neat_data", "score", str(self._rows(kind)), "--reward-model", a, "--out", folder, *base),
            asked,
            ("neat_data", "rescore", folder, "--reward-model", b, "--name", HELD_OUT, *base),
        )

    def _rows(self, kind: str) -> Path:
        return self.out / "rows" / f"{kind}.jsonl"


if __name__ == "__main__":
    sys.exit(main())
