"""Runs, evaluations and verdicts of judges as `fit`, `eval` and `judge` write them, made by hand from numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

A, B = "reward-a", "reward-b"
Rewards = Mapping[str, Sequence[float]]


def query_ids(count: int) -> list[str]:
    """As hashes are: in no order."""
    return [hashlib.sha256(f"query {number}".encode()).hexdigest()[:32] for number in range(count)]


def write_run(
    folder: Path,
    *,
    method: str = "neat",
    seed: int = 0,
    curve: Sequence[float] = (0.0, 0.1, 0.3),
    finished: bool = True,
    sampled: tuple[int, int] = (0, 0),
    session: int | None = 100,
    seconds: float = 90.0,
    reward_model: str = "weights of a",
    training: Mapping[str, Any] | None = None,
    policy: Mapping[str, Any] | None = None,
    dataset: str = "d",
) -> Path:
    """A run of 100 steps; `curve` is its held-out reward over time.

    Args:
        sampled: responses that joined, and that were dropped unfinished.
        session: steps of the last session, which result.json does not tell where that is None.
        seconds: that it took.
        training, policy: more of what settings.json says of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"method": method, "training": {"seed": seed, **(training or {})}, "held_out": {"queries": 300}}
    content = {
        "dataset": {"sha256": dataset},
        "reward_model": {"weights": reward_model},
        "policy": {"weights": "weights of base", **(policy or {})},
    }
    (folder / "settings.json").write_text(
        json.dumps({"settings": settings, "identifying": settings, "content": content})
    )
    steps = np.linspace(0, 100, len(curve)).astype(int).tolist()
    rows: list[dict[str, Any]] = [
        {"step": step, "epoch": step / 100, "eval_reward": value} for step, value in zip(steps, curve, strict=True)
    ]
    rows.append({"step": 50, "epoch": 0.5, "round/tokens": 30.0 * sum(sampled)})
    speed = round((100 if session is None else session) / seconds, 3)
    rows.append({"step": 100, "epoch": 1.0, "train_runtime": seconds, "train_steps_per_second": speed})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {
        "steps": 100,
        "trained": {"records": 1600, "responses": 0, "response_tokens": 48_000, "tokens": 64_000},
        "sampled": sampled[0],
        "dropped": {"unfinished": sampled[1]},
        "seconds": seconds,
        **({} if session is None else {"session_began": 100 - session}),
    }
    if finished:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def write_evaluation(
    folder: Path,
    rewards: Rewards,
    *,
    greedy: Rewards | None = None,
    negative: Rewards | None = None,
    chosen: Rewards | None = None,
    nll: Sequence[float] | None = None,
    nll_tokens: Sequence[int] | None = None,
    kl: Sequence[float] | None = None,
    tokens: Sequence[int] | None = None,
    texts: Sequence[str] | None = None,
    method: str | None = "neat",
    seed: int = 0,
    weights: str | None = None,
    prompt: str = "none",
    queries: str = "test",
    settings: Mapping[str, Any] | None = None,
    reward_models: Mapping[str, str] | None = None,
    reward_template: str = "its own",
    query: str = "What?",
    source: str = "tests",
    start: str = "weights of base",
    own: bool = True,
    subject: Mapping[str, Any] | None = None,
) -> Path:
    """An evaluation; `rewards[MODEL][i]` is that of the answer at temperature 1 to query i, NaN for none.

    `settings` and `subject` are more of eval.json's settings and of their subject.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(rewards.values())))
    ids = query_ids(count)
    decodings = {"sampled": rewards, "greedy": greedy, "negative": negative}
    given = {name: values for name, values in decodings.items() if values is not None}
    frames = []
    for decoding, values in given.items():
        columns: dict[str, Any] = {
            "decoding": [decoding] * count,
            "query_id": ids,
            "source": [source] * count,
            "query": [query] * count,
            "prompt": [prompt] * count,
            "text": list(texts or [f"{decoding} answer {number}" for number in range(count)]),
            "tokens": list(tokens or [10] * count),
            "finished": [True] * count,
            "empty": [False] * count,
            "refusal": [False] * count,
            "kl": pl.Series(list(kl or [1.0] * count) if decoding == "sampled" else [None] * count, dtype=pl.Float64),
        }
        columns.update({f"reward/{model}": pl.Series(column, dtype=pl.Float64) for model, column in values.items()})
        columns.update({f"chosen/{model}": list(map(float, column)) for model, column in (chosen or {}).items()})
        frames.append(pl.DataFrame(columns).fill_nan(None))
    pl.concat(frames, how="diagonal").write_ipc(folder / "answers.arrow")
    lost = list(nll or [20.0] * count)
    records = pl.DataFrame({"query_id": ids, "nll": lost, "tokens": list(nll_tokens or [10] * count)})
    records.write_ipc(folder / "records.arrow")
    content = {
        "format": 1,
        "subject": {
            "spec": str(folder.parent.parent),
            "label": folder.parent.parent.name,
            "kind": "run",
            "method": method,
            "seed": seed,
            "weights": weights or f"weights of {folder}",
        },
        "queries": {
            **{"source": "tests", "name": queries, "count": count, "sha256": f"sha of {queries}"},
            **{"with_chosen": count, "left_out": {}},
        },
        "prompt": prompt,
        "seed": 0,
        "settings": {
            "subject": {"tokenizer": "t", "template": "c", "dtype": "float32", "max_length": 2048, **(subject or {})},
            "prompt": {"name": prompt, "text": None if prompt == "none" else f"Be {prompt}."},
            "negative": {"name": "negative", "text": "Be negative."},
            "max_new_tokens": 128,
            "seed": 0,
            "reward_models": {
                model: {"weights": (reward_models or {}).get(model, f"sha of {model}")} for model in rewards
            },
            **(settings or {}),
        },
        "reward_models": {model: {"model": model, "template": reward_template} for model in rewards},
        "start": {"spec": "base", "label": "base", "weights": start, "own": own},
        "decodings": {name: _decoding(values) for name, values in given.items()},
    }
    (folder / "eval.json").write_text(json.dumps(content))
    return folder


def _decoding(rewards: Rewards) -> dict[str, Any]:
    return {
        **{"answers": 1, "unanswered": 0, "finished": 1.0, "empty": 0.0, "refusals": 0.0},
        "length": {"mean": 10.0, "p10": 10.0, "median": 10.0, "p90": 10.0},
        "distinct": {"1": 0.2, "2": 0.6, "3": 0.9},
        "rewards": {model: _rewards(values) for model, values in rewards.items()},
    }


def _rewards(values: Sequence[float]) -> dict[str, Any]:
    nothing = ("chosen", "difference", "win_rate", "length_correlation")
    mean = {"value": float(np.nanmean(values)), "low": None, "high": None}
    return {"mean": mean, "scored": len(values), "unscored": 0, **dict.fromkeys(nothing), "by_source": {}}


def write_judge(folder: Path, win: int, lose: int, tie: int, *, unreadable: int = 0, a: str = "runs/neat") -> Path:
    """A judge.json."""
    folder.mkdir(parents=True, exist_ok=True)
    n = win + lose + tie
    rate = (win + tie / 2) / n
    content = {
        "format": 1,
        "a": {"spec": a, "label": Path(a).name},
        "b": {"spec": "chosen", "label": "chosen"},
        "judge": {"model": "a-judge"},
        "queries": {
            "name": "test",
            "sha256": "q",
            "count": n + unreadable,
            "comparable": n + unreadable,
            "left_out": {},
        },
        "settings": {},
        "n": n + unreadable,
        "left_out": {"a": 0, "b": 0},
        "unfinished": {"a": 0, "b": 0},
        "verdicts": {"win": win, "lose": lose, "tie": tie, "unreadable": unreadable, "failed": 0},
        "cut": 0,
        "win_rate": {"value": rate, "low": rate - 0.1, "high": rate + 0.1},
        "sign_test": 0.04,
        "length_controlled": None,
        "length": {"a": 5.0, "b": 5.0, "longer_wins": None},
        "position_bias": _bias({"value": 0.61, "low": 0.55, "high": 0.67}),
        "calibration": {
            **{"agreement": {"value": 0.66, "low": 0.6, "high": 0.72}, "decided": None, "verdicts": {}, "cut": 0},
            "position_bias": _bias(None),
        },
        "tokens": {"prompt": 1, "completion": 1, "unreported": 0},
    }
    (folder / "judge.json").write_text(json.dumps(content))
    return folder


def _bias(first: dict[str, float] | None) -> dict[str, Any]:
    return {"first_preferred": first, "consistent": None, "both_first": 0, "both_second": 0, "pairs": 0}
