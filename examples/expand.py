"""Sample new responses to a dataset's queries under good and bad prompts, and see what each prompt did.

python examples/expand.py [--policy MODEL] [--out FOLDER] [--limit QUERIES]
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import polars as pl

import neat_data as nd

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = nd.PromptSet(
    "manners",
    (
        nd.Prompt("kind", "positive", "Answer kindly, and in full sentences."),
        nd.Prompt("curt", "negative", "Be curt and unhelpful."),
    ),
)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default=str(ROOT / "data/models/tiny-policy"))
    parser.add_argument("--out", default="demo/examples/expanded")
    parser.add_argument("--limit", type=int, default=20)
    asked = parser.parse_args()

    # Does nothing where the dataset is there already.
    source, reward_model = ROOT / "data/sample/helpful.train.jsonl", ROOT / "data/models/tiny-reward"
    nd.score(source, out=asked.out, reward_model=reward_model, limit=asked.limit)

    summary = nd.expand(asked.out, policy=asked.policy, prompts=PROMPTS, max_new_tokens=24)
    print(f"round {summary.round} has {summary.counts['responses']} responses")

    by_prompt = nd.open(asked.out).scan().group_by("round", "polarity").agg(pl.len(), pl.col("reward").mean())
    print(by_prompt.sort("round", "polarity").collect())
    nd.export(asked.out, to="trl-dpo", out=f"{asked.out}.jsonl", overwrite=True)


if __name__ == "__main__":
    main()
