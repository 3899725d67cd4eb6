"""A scored sample of the project's own data."""

from __future__ import annotations

from pathlib import Path

import pytest

from neat_data.models.reward_model import RewardModelSpec
from neat_data.scoring.score import ScoreRequest, score

ROOT = Path(__file__).resolve().parents[2]
REWARDS = """
def score(conversations):
    return [float(sum(turns[-1]["content"].encode()) % 97) / 16 for turns in conversations]
"""


@pytest.fixture(scope="session")
def scored_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 rows of the shipped harmless sample, scored by a function of their bytes."""
    folder = tmp_path_factory.mktemp("scored-sample")
    (folder / "rewards.py").write_text(REWARDS)
    reward = RewardModelSpec(model=f"{folder / 'rewards.py'}:score")
    source = str(ROOT / "data" / "sample" / "harmless.train.jsonl")
    score(ScoreRequest(source, folder / "dataset", reward, limit=24, shard_rows=10))
    return folder / "dataset"
