"""Datasets of a few records, made by hand, for the tests of what reads datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import neat_data
from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.folder import DatasetFolder


@pytest.fixture
def record_of() -> Callable[..., Record]:
    """`record_of("query", {"text": reward, …}, [orders], …)`: orders are tuples of texts, best first."""

    def make(
        query: str | Sequence[str],
        rewards: dict[str, float | None],
        orders: Sequence[tuple[str, ...]] = (),
        *,
        verdict: bool | None = None,
        place: tuple[str, str | None, str | None] = ("a.jsonl", None, "train"),
        meta: str | None = None,
        **fields: Any,
    ) -> Record:
        turns = [query] if isinstance(query, str) else query
        messages = tuple(Message(("user", "assistant")[i % 2], turn) for i, turn in enumerate(turns))
        ids = {text: response_id(query_id(messages), text) for text in rewards}
        responses = tuple(Response(ids[text], text, reward=reward, **fields) for text, reward in rewards.items())
        labels = tuple(
            Label(*place, row, tuple(ids[text] for text in order), verdict if len(order) == 1 else None)
            for row, order in enumerate(orders)
        )
        return Record(query_id(messages), messages, responses, labels, meta).ranked()

    return make


@pytest.fixture
def made_dataset(tmp_path: Path) -> Callable[..., PreferenceDataset]:
    """`made_dataset(records, shard=2, rejected=["bad_unicode"], model="tiny")`: the records, stored and opened."""

    def make(
        records: Sequence[Record],
        *,
        shard: int = 3,
        rejected: Sequence[str] = (),
        model: str = "tiny",
        name: str = "made",
    ) -> PreferenceDataset:
        settings = {"reward_model": {"model": model, "dtype": "float32"}}
        rejects = [{"row": row, "reason": reason, "raw": "{"} for row, reason in enumerate(rejected)]
        with DatasetFolder.open(tmp_path / name, settings, versions={}) as folder:
            for number, first in enumerate(range(0, max(1, len(records)), shard)):
                part, refused = records[first : first + shard], [] if number else rejects
                summary = {"source_rows": sum(len(r.labels) for r in part) + len(refused)}
                folder.record(0, folder.commit(0, number, to_table(part), refused, summary))
            folder.finish(0, {"source_rows": sum(len(r.labels) for r in records) + len(rejected), "queries_cut": 0})
        return neat_data.open(str(tmp_path / name))

    return make
