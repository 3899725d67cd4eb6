"""A reward of your own: a Python function instead of a model, and how far it agrees with the model that scored.

python examples/custom_reward.py [--out FOLDER] [--limit ROWS]
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def brevity(conversations: list[list[dict[str, str]]]) -> list[float]:
    """One number a conversation, higher for better: minus the words of the answer, which is the last turn.

    It is called with at most 64 conversations at a time. The file's hash and the function's name identify it, so a
    change of this file is another reward model.
    """
    return [-float(len(conversation[-1]["content"].split())) for conversation in conversations]


def main() -> None:
    import neat_data as nd  # not above: this file is also what is loaded for `brevity`

    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="demo/examples/custom-reward")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()

    source, model = ROOT / "data/sample/helpful.train.jsonl", ROOT / "data/models/tiny-reward"
    nd.score(source, out=asked.out, reward_model=f"{__file__}:brevity", limit=asked.limit)
    nd.rescore(asked.out, reward_model=model, name="tiny")

    dataset = nd.open(asked.out)
    figures = nd.stats(dataset)
    print(f"{dataset.reward_model}: people prefer the longer answer in {figures.length.by_people.share:.0%} of pairs")
    pairs = zip(dataset.records(), dataset.records(rank_by="tiny"), strict=True)
    same = sum(own.responses[0].response_id == other.responses[0].response_id for own, other in pairs)
    print(f"brevity and tiny-reward agree on the best response of {same} of {len(dataset)} queries")


if __name__ == "__main__":
    main()
