"""Datasets that grow: rounds, scores of further models and reviewers' verdicts, made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import neat_data
from neat_data.record import Record, Response, response_id, to_table
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder
from neat_data.store.join import flat_responses
from neat_data.store.scores.folder import ScoresFolder, commit_scores, score_table
from neat_data.store.shard import read_shard


def add_round(path: Path, added: dict[str, dict[str, float]], seed: int = 0) -> int:
    """The next round: for each query (by its last turn) responses with their rewards. Returns its number."""
    with DatasetFolder.claim(path) as folder:
        round = folder.begin_round("expand", {"seed": seed}, versions={})
        for number in folder.manifest.round(0).numbers():
            rows = [
                Record(record.query_id, (), _responses(record, added[record.messages[-1].content], round)).ranked()
                for record in neat_data.open(path).shard_records(number, [0])
                if record.messages[-1].content in added
            ]
            folder.record(round, folder.commit(round, number, to_table(rows), [], {}))
        folder.finish(round, {"asked": len(added)})
    return round


def _responses(record: Record, rewards: dict[str, float], round: int) -> tuple[Response, ...]:
    return tuple(
        Response(response_id(record.query_id, text), text, reward, "sampled", "negative", "p", round, 7, (1, 2), "t")
        for text, reward in rewards.items()
    )


def add_scores(path: Path, name: str, rewards: dict[str, float | None], model: str = "other") -> None:
    """Scores for every shard that has none: by the response's text, None where it was refused."""
    settings = {"reward_model": {"model": model}}
    with DatasetFolder.claim(path) as folder:
        scores = ScoresFolder(path, name, folder.manifest)
        scores.begin(settings, versions={})
        identity = {"fingerprint": scores.scores.fingerprint, "settings": settings}
        for round, number, entry in scores.missing:
            responses = flat_responses(read_shard(path / entry.name))
            given = [rewards[text] for text in responses.field("text").to_pylist()]
            values = np.array([np.nan if reward is None else reward for reward in given], dtype=np.float32)
            reasons = ["response_too_long" if reward is None else None for reward in given]
            table = score_table(responses.field("response_id"), values, reasons)
            scores.record(commit_scores(path, name, (round, number, entry.sha256), table, identity))
        scores.enter()


def drop(path: Path, ids: Iterable[str], rater: str = "ann") -> None:
    """A reviewer drops these responses."""
    (path / "reviews").mkdir(exist_ok=True)
    lines = [json.dumps({"response_id": identifier, "verdict": "drop"}) for identifier in ids]
    (path / "reviews" / f"{rater}.jsonl").write_text("\n".join(lines) + "\n")


def texts(dataset: PreferenceDataset, **view: object) -> dict[str, list[str]]:
    """The texts of every record's responses, best first, by the query's last turn."""
    return {r.messages[-1].content: [a.text for a in r.responses] for r in dataset.records(**view)}  # type: ignore[arg-type]
