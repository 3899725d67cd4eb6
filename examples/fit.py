"""Train a policy with NEAT-PP, which samples and scores new responses on the way.

python examples/fit.py [--policy MODEL] [--out FOLDER] [--steps N]
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import neat_data as nd
import neat_train as nt

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default=str(ROOT / "data/models/tiny-policy"))
    parser.add_argument("--out", default="demo/examples/fit")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--limit", type=int, default=64)
    asked = parser.parse_args()

    dataset = f"{asked.out}/dataset"
    source, reward_model = ROOT / "data/sample/helpful.train.jsonl", ROOT / "data/models/tiny-reward"
    nd.score(source, out=dataset, reward_model=reward_model, limit=asked.limit)

    run = nt.fit(
        dataset,
        policy=asked.policy,
        out=f"{asked.out}/run",
        method="neat-pp",
        settings=ROOT / "pipelines/tiny.yaml",
        max_steps=asked.steps,
        records_per_step=4,
        rounds={"max_new_tokens": 16, "drop": []},
        held_out={"queries": 4},
    )
    held_out = run.result.held_out
    for when, measured in (("start", held_out.start), ("end", held_out.end)):
        print(f"{when}: reward {measured['reward']:.3f}, perplexity {measured['perplexity']:.2f}")
    print(f"{run.run}: adapter, README.md, curves.png, metrics.jsonl")

    merged = nt.export(run.run, merge=True, out=f"{asked.out}/merged")
    print(f"AutoModelForCausalLM.from_pretrained({str(merged.model)!r})")


if __name__ == "__main__":
    main()
