"""Reward models by `neat-train fit --method reward`, a linear teacher beside the labels.

The rows have one turn each and the dialogues that will be scored have several, so a share of the rows stands behind
further dialogues of its kind. The teacher did not see the rows that it judges: its scores are the dataset's rewards,
half of each pair's target and something to be regressed on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import neat_data
import neat_train
from pipelines.tiny_models.contexts import in_context
from pipelines.tiny_models.rows import KINDS, Pair

Scores = Sequence[tuple[float, float]]


def train_reward(
    body: Path,
    pairs: Sequence[Pair],
    teacher: Scores,
    validation: Sequence[Pair],
    settings: Mapping[str, Any],
    seed: int,
    work: Path,
) -> Path:
    """The run's folder, a classifier that loads alone; the same call again goes on where one stopped.

    Args:
        body: a causal language model with its tokenizer.
        teacher: scores of each pair's chosen and rejected response.
        validation: rows that nothing is fitted on; where there are some, the best of its checkpoints is kept.
        settings: of settings.yaml, `reward`.
        work: where the rows, the datasets and the run are kept.
    """
    work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    placed, scores = _placed(pairs, teacher, settings["in_context"], settings["short_query"], rng)
    train = _dataset(work / "train", placed, scores)
    measured: dict[str, Any] = {"eval_strategy": "no", "held_out.share": 0.0}
    if validation:
        context = in_context(validation, settings["short_query"], random.Random(seed))[::3]  # long, so fewer
        held_out = [*validation, *context]
        data = _dataset(work / "validation", held_out, [(1.0, 0.0)] * len(held_out))
        measured = {"eval_data": data, "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    chosen = {**settings["fit"], **measured, "full": True, "seed": seed}
    return neat_train.fit(train, policy=body, out=work / "run", method="reward", progress=False, **chosen).run


def _placed(
    pairs: Sequence[Pair], teacher: Scores, share: float, short_query: float, rng: random.Random
) -> tuple[list[Pair], list[tuple[float, float]]]:
    """Every pair once, with its scores, a share of them in context."""
    order = [place for kind in KINDS for place, pair in enumerate(pairs) if pair.kind == kind]  # as `in_context` has it
    behind = in_context(pairs, short_query, rng)
    placed = [context if rng.random() < share else pairs[place] for place, context in zip(order, behind, strict=True)]
    return placed, [teacher[place] for place in order]


def _dataset(folder: Path, pairs: Sequence[Pair], scores: Scores) -> Path:
    """The rows with these scores as their rewards."""
    lines = (json.dumps(_row(pair, *both)) + "\n" for pair, both in zip(pairs, scores, strict=True))
    file = folder.with_suffix(".jsonl")
    file.write_text("".join(lines))
    neat_data.score(file, out=folder, rewards="given", progress=False)
    return folder


def _row(pair: Pair, chosen: float, rejected: float) -> dict[str, Any]:
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in pair.query],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "score_chosen": chosen,
        "score_rejected": rejected,
    }
