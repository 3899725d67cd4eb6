"""RRHF's data, read as its documented fields say: one JSON object a line with a query, its responses, their scores."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import neat_data
from neat_data.dialogue import messages, parse
from neat_data.formats.export import ExportRequest, export
from neat_data.formats.preferences import Skipped
from neat_data.formats.trl import rrhf


def read(path: Path) -> list[dict[str, Any]]:
    """RRHF's reader: lines, stripped, as JSON."""
    with path.open() as file:
        return [json.loads(line.strip()) for line in file.readlines()]


def pairs_to_rank(item: dict[str, Any]) -> list[tuple[str, str]]:
    """(better, worse) as RRHF's loss finds them in a batch of one: every strict difference of two scores."""
    scores = torch.FloatTensor([item["scores"]])
    difference = scores.unsqueeze(1) - scores.unsqueeze(-1)
    return [
        (item["responses"][better], item["responses"][worse])
        for _, worse, better in (difference > 0).nonzero().tolist()
    ]


def test_a_sample_is_read_by_its_fields(scored_sample, tmp_path):
    opened = neat_data.open(str(scored_sample))
    export(opened, ExportRequest("rrhf", tmp_path / "train_data.json"))
    items = read(tmp_path / "train_data.json")
    for record, item in zip(opened.records(), items, strict=True):
        assert set(item) == {"query", "responses", "scores"}
        assert all(math.isfinite(score) for score in item["scores"])
        assert item["responses"][item["scores"].index(max(item["scores"]))] == record.responses[0].text
        whole = messages(parse(item["query"] + " " + item["responses"][0]))
        assert whole[:-1] == record.messages
        assert whole[-1].content == item["responses"][0]
        assert pairs_to_rank(item) == [(record.responses[0].text, record.responses[1].text)]


def test_responses_of_the_source_stand_last(record_of):
    record = record_of("q", {"a": 2.0, "b": 1.0, "c": 3.0, "d": 0.0, "e": None})
    new = {"c", "d"}
    responses = tuple(replace(r, origin="sampled") if r.text in new else r for r in record.responses)
    (row,) = rrhf(replace(record, responses=responses))
    assert row["responses"] == ["c", "d", "a", "b"]
    assert row["scores"] == [3.0, 0.0, 2.0, 1.0]
    assert row["query"] == "\n\nHuman: q\n\nAssistant:"


@pytest.mark.parametrize(
    ("rewards", "why"),
    [({"a": 1.0}, "one_response"), ({"a": 1.0, "b": 1.0}, "tie"), ({"a": 1.0, "b": None}, "no_reward")],
)
def test_what_cannot_be_ranked_is_skipped(record_of, rewards, why):
    with pytest.raises(Skipped, match=why):
        rrhf(record_of("q", rewards))
