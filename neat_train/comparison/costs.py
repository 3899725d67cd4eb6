"""What a run cost, and what it logged of its held-out queries while it trained (Figure 3); from the run's own files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from neat_data.errors import InputError
from neat_data.store.claim import readable
from neat_train.comparison.evaluation import RESULT, stored
from neat_train.comparison.result import Cost, Curve
from neat_train.training.json_lines import read_rows
from neat_train.training.metrics import METRICS

SECONDS = "seconds"
COLUMNS = {
    "records": "records presented",
    "steps": "optimiser steps",
    "responses": "responses trained",
    "response_tokens": "response tokens trained",
    "tokens": "tokens run in training",
    "sampled": "responses sampled",
    "sampled_tokens": "tokens sampled",
    "reward_calls": "reward-model calls",
    SECONDS: "wall-clock",
}
_ROUNDED = 0.0005  # transformers tells steps a second with three decimals: with slow steps that is a lot
_SCORED = "round/dropped/not_kept"  # the one reason for which a sample is dropped after it was scored
_REWARD = "eval_reward"
_ASKED = ("held_out", "limit", "where", "rank_by", "max_response")


def of_arm(runs: Sequence[Path | None], extra: Mapping[str, Cost] | None = None) -> tuple[dict[str, Cost], list[str]]:
    """The costs of an arm, and notes on those that are not known.

    Args:
        runs: its seeds; None for what is no run.
        extra: more columns; they take the place of those of the same name.
    """
    measured = [_of_run(run) for run in runs if run is not None]
    costs: dict[str, Cost] = {}
    for name in COLUMNS:
        values = [costs_of_run.get(name) for costs_of_run, _ in measured]
        known = [value for value in values if value is not None]
        if known and len(known) == len(runs):
            costs[name] = fmean(known)
    notes = [note for _, notes in measured for note in notes]
    return {**costs, **(extra or {})}, notes


def _of_run(run: Path) -> tuple[dict[str, float], list[str]]:
    """Costs, and notes. The run's own held-out evaluations are not among them.

    Raises:
        InputError: result.json or metrics.jsonl does not hold what `fit` writes.
    """
    result = _result(run)
    if result is None:
        return {}, [f"{run} has not finished: what it cost is not told."]
    with readable(run / RESULT):
        return _costs(run, result, read_rows(run / METRICS))


def _costs(
    run: Path, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], list[str]]:
    dropped = sum(result.get("dropped", {}).values())
    sampled = result.get("sampled", 0)
    trained = {name: float(count) for name, count in result.get("trained", {}).items() if count}
    costs = {
        "steps": float(result["steps"]),
        **trained,
        "sampled": float(sampled + dropped),
        "sampled_tokens": _total(rows, "round/tokens"),
        "reward_calls": sampled + _total(rows, _SCORED),
    }
    seconds = result.get(SECONDS)
    if seconds is None:
        return costs, []
    session = _session_steps(result, rows)
    if session is not None and session <= result["steps"] - 1:
        return costs, [
            f"{run} was interrupted: its last session took {seconds:,.0f} s, and the time of the steps before it is "
            "not known."
        ]
    return {**costs, SECONDS: float(seconds)}, []


def _result(run: Path) -> dict[str, Any] | None:
    path = run / RESULT
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_bytes())
        return result if "steps" in result else None
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _total(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(row.get(name) or 0 for row in rows))


def _session_steps(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Steps of the session that `seconds` tells the time of: a run that went on counts its last one alone.

    Where result.json does not say what that session began with, since an older version wrote it or nothing was left to
    train, it is as many as the rounded speed allows at most; None where that is not known either.
    """
    if (began := result.get("session_began")) is not None:
        return result["steps"] - began
    for row in reversed(rows):
        if row.get("train_runtime") and row.get("train_steps_per_second"):
            return row["train_runtime"] * (row["train_steps_per_second"] + _ROUNDED)
    return None


def curve(arm: str, seed: int | None, run: Path) -> Curve | None:
    """The mean reward of fresh answers at each evaluation; None where the run measured it less than twice."""
    rows = [row for row in read_rows(run / METRICS) if row.get(_REWARD) is not None]
    if len(rows) < 2:
        return None
    with readable(run / METRICS):
        return Curve(
            arm,
            seed,
            steps=tuple(int(row["step"]) for row in rows),
            epochs=tuple(float(row["epoch"]) for row in rows),
            rewards=tuple(float(row[_REWARD]) for row in rows),
        )


def notes(runs: Sequence[tuple[str, Path]], curves: Sequence[Curve]) -> list[str]:
    """What a reader of the curves must know.

    Args:
        runs: with the names of their arms.
    """
    drawn = {curve.arm for curve in curves}
    without = [arm for arm in dict.fromkeys(name for name, _ in runs) if arm not in drawn]
    lines = []
    if without:
        lines.append(f"No curve of {', '.join(without)}: the runs logged no reward of held-out queries, or only once.")
    asked = [(arm, _asked(run)) for arm, run in runs if arm in drawn]
    other = dict.fromkeys(arm for arm, what in asked if what != asked[0][1])
    if other:
        lines.append(
            f"The curves of {', '.join(other)} were measured on other held-out queries, by another reward model or in "
            f"another way than those of {asked[0][0]}."
        )
    return lines


def _asked(run: Path) -> dict[str, Any]:
    """What decides the held-out reward beside the policy."""
    known = stored(run)
    content, settings = known["content"], known["settings"]
    model = content["reward_model"]
    return {
        "dataset": content.get("held_out") or content.get("dataset"),
        "prompt": content.get("held_out_prompt"),
        "reward model": model.get("weights") or model.get("model"),
        **{name: settings.get(name) for name in _ASKED},
    }
