"""Measure two policies on queries that neither was trained on, and set them beside each other.

python examples/evaluate.py [--out FOLDER] [--limit QUERIES] [A B]     models' folders, hub ids, or runs
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import neat_train as nt

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "data/models"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("a", nargs="?", default=str(MODELS / "tiny-policy-plain"))
    parser.add_argument("b", nargs="?", default=str(MODELS / "tiny-policy"))
    parser.add_argument("--out", default="demo/examples/evaluate")
    parser.add_argument("--limit", type=int, default=12)
    asked = parser.parse_args()

    results = {}
    for name, model in (("a", asked.a), ("b", asked.b)):
        results[name] = nt.evaluate(
            model,
            ROOT / "data/sample/harmless.train.jsonl",
            # One that trains a policy, and one that has no part in it: what only the first rewards is not better.
            reward_models=[f"own={MODELS / 'tiny-reward'}", f"other={MODELS / 'tiny-reward-heldout'}"],
            out=f"{asked.out}/{name}",
            limit=asked.limit,
            max_new_tokens=16,
        )
    compared = nt.compare({name: result.out for name, result in results.items()}, report=f"{asked.out}/compare.html")
    for arm in compared.arms:
        rewards = {name: f"{arm.figures[f'sampled/reward/{name}'].value:.3f}" for name in compared.reward_models}
        print(f"{arm.name}: perplexity {arm.figures['perplexity'].value:.1f}, reward of its answers {rewards}")
    for difference in compared.differences:
        print(f"b has more reward than a: {difference.verdict} (p {difference.adjusted:.3f})")


if __name__ == "__main__":
    main()
