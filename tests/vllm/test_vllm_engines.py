"""Several vLLM engines, one a worker: `expand --sampler vllm --workers 2`."""

import json
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM lives in an environment of its own: make test-vllm", exc_type=ImportError)

import neat_data as nd

ROWS = [{"prompt": f"Question {i}: why?", "chosen": f"As {i} is.", "rejected": "No."} for i in range(8)]


def grown(tmp_path: Path, policy: Path, workers: int) -> dict[str, bytes]:
    """The shards of the new round, by their names."""
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "rewards.py").write_text(
        "def length(conversations):\n    return [len(c[-1]['content']) for c in conversations]"
    )
    out = tmp_path / f"by-{workers}"
    reward = f"{tmp_path / 'rewards.py'}:length"
    nd.score(tmp_path / "rows.jsonl", out=out, reward_model=reward, shard_rows=4, progress=False)
    how = {"sampler": "vllm", "device": "cpu", "dtype": "float32", "max_new_tokens": 12, "reward_model": reward}
    nd.expand(out, policy=policy, workers=workers, progress=False, **how)
    return {path.name: path.read_bytes() for path in sorted((out / "round-0001").glob("*.arrow"))}


def test_two_engines_make_the_shards_of_one(policy, tmp_path):
    two = grown(tmp_path, policy, 2)
    assert len(two) == 2
    assert two == grown(tmp_path, policy, 1)
