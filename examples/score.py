"""Score preference data with a reward model, and look at what came of it.

python examples/score.py [--source FILE] [--reward-model MODEL] [--out FOLDER] [--limit ROWS]
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import neat_data as nd

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--source", default=str(ROOT / "data/sample/helpful.train.jsonl"))
    parser.add_argument("--reward-model", default=str(ROOT / "data/models/tiny-reward"))
    parser.add_argument("--out", default="demo/examples/scored")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()

    nd.score(asked.source, out=asked.out, reward_model=asked.reward_model, limit=asked.limit)
    dataset = nd.open(asked.out)
    print(dataset)

    figures = nd.stats(dataset, report=f"{asked.out}.html")
    print(f"{figures.counts.pairs} pairs; people and the reward disagree on {figures.disagreement.share:.0%}")
    for beyond in figures.thresholds:
        print(f"gap above {beyond.threshold}: {beyond.absolute.share:.1%} of them")

    record = max(dataset, key=lambda record: record.responses[0].reward - record.responses[-1].reward)
    print(f"\nThe widest gap: {record.messages[-1].content!r}")
    for response in (record.responses[0], record.responses[-1]):
        print(f"{response.reward:7.3f}  {response.text!r}")


if __name__ == "__main__":  # scoring with several workers starts this file again
    main()
