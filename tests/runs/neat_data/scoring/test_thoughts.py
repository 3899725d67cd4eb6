"""Responses that think, from a source through score, expand and stats: what is scored, counted and shown."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import neat_data as nd
from neat_data.errors import InputError
from neat_data.record import response_id
from neat_data.report.page import page
from neat_data.report.terminal import print_grow_summary, print_score_summary

REWARD = """
def letters(conversations):
    return [len(conversation[-1]["content"]) for conversation in conversations]
"""
ROWS = [
    {"prompt": "One?", "chosen": "<think>\nHm.\n</think>\n\nYes.", "rejected": "No"},
    {"prompt": "Two?", "chosen": "Hm.\n</think>\n\nMaybe so.", "rejected": "<think>\nI could go on"},
    {"prompt": "Three?", "chosen": "Certainly.", "rejected": "Never."},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "reward.py").write_text(REWARD)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "rows.jsonl"


def scored(source: Path, name: str, **options) -> nd.PreferenceDataset:
    reward = f"{source.parent / 'reward.py'}:letters"
    nd.score(source, out=source.parent / name, reward_model=reward, progress=False, **options)
    return nd.open(source.parent / name)


def rewards(dataset: nd.PreferenceDataset) -> dict[str, float | None]:
    return {response.text: response.reward for record in dataset for response in record.responses}


def printed(show, summary) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    show(summary, console)
    return console.export_text()


def test_the_answer_is_scored_and_the_whole_response_stored(source: Path) -> None:
    dataset = scored(source, "answers")
    assert rewards(dataset) == {ROWS[0]["chosen"]: 4, "No": 2, "Certainly.": 10, "Never.": 6}
    counts = dataset.manifest.round(0).summary
    assert counts["rejected"] == {"no_answer": 1}
    assert counts["thoughts"] == {"responses": 3, "unended": 1, "scored": "answer"}
    assert "score" not in dataset.manifest.settings["reward_model"]


def test_the_whole_response_is_scored_where_that_is_asked_for(source: Path) -> None:
    dataset = scored(source, "whole", score="whole")
    assert rewards(dataset) == {text: len(text) for row in ROWS for text in (row["chosen"], row["rejected"])}
    assert dataset.manifest.settings["reward_model"]["score"] == "whole"
    assert dataset.manifest.round(0).summary["thoughts"]["scored"] == "whole"


def test_a_dataset_goes_on_with_the_part_that_it_began_with(source: Path) -> None:
    scored(source, "whole", score="whole")
    with pytest.raises(InputError, match="score"):
        scored(source, "whole")
    reward = f"{source.parent / 'reward.py'}:letters"
    given = source.parent / "given.jsonl"
    given.write_text(json.dumps({"prompt": "Three?", "response": "<think>\nHm.\n</think>\n\nPerhaps."}) + "\n")
    nd.add_responses(source.parent / "whole", given, reward_model=reward, progress=False)
    text = "<think>\nHm.\n</think>\n\nPerhaps."
    assert rewards(nd.open(source.parent / "whole"))[text] == len(text)


def test_where_nobody_thinks_both_parts_are_the_same_bytes(source: Path) -> None:
    source.write_text(json.dumps(ROWS[2]) + "\n")
    one, two = scored(source, "answers"), scored(source, "whole", score="whole")
    assert rewards(one) == rewards(two)
    assert "thoughts" not in one.manifest.round(0).summary


def test_a_round_counts_thoughts_by_prompt(source: Path) -> None:
    dataset = scored(source, "data")
    texts = ["<think>\nHm.\n</think>\n\nPerhaps.", "<think>\nI go on and on", "Plainly."]
    given = source.parent / "given.jsonl"
    given.write_text("".join(json.dumps({"prompt": "Three?", "response": text}) + "\n" for text in texts))
    reward = f"{source.parent / 'reward.py'}:letters"
    summary = nd.add_responses(dataset.path, given, reward_model=reward, progress=False)
    (figures,) = summary.to_dict()["prompts"].values()
    assert figures["thought_share"] == pytest.approx(2 / 3)
    assert figures["unended_share"] == 0.5
    assert figures["thought_characters"] == (3 + 14) / 2
    assert (figures["reward_with_thought"], figures["reward_without_thought"]) == (8, 8)
    assert figures["dropped"] == {"no_answer": 1}
    assert "Thoughts" in printed(print_grow_summary, summary)


def test_stats_tell_how_long_thoughts_are_and_what_they_bring(source: Path) -> None:
    dataset = scored(source, "whole", score="whole")
    stats = nd.stats(dataset)
    found = stats.thoughts
    assert found is not None
    assert (found.share, found.unended) == (0.5, pytest.approx(1 / 3))
    assert (found.characters.count, found.characters.mean) == (3, pytest.approx((3 + 3 + 13) / 3))
    lengths = [len(text) for text in (ROWS[0]["chosen"], ROWS[1]["chosen"], ROWS[1]["rejected"])]
    assert found.with_thought.mean == pytest.approx(sum(lengths) / 3)
    assert found.without.mean == 6
    assert json.loads(json.dumps(stats.to_dict()))["thoughts"]["share"] == 0.5
    written = page(dataset, stats)
    assert "<details><summary>Thought of 3 characters</summary>" in written
    assert "<details><summary>Thought of 13 characters, without an end</summary>" in written
    assert "&lt;think&gt;" not in written


def test_the_summary_says_what_was_scored(source: Path) -> None:
    reward = f"{source.parent / 'reward.py'}:letters"
    summary = nd.score(source, out=source.parent / "data", reward_model=reward, progress=False)
    said = printed(print_score_summary, summary)
    assert "3 responses think, 1 of them without an end; scored: the answer alone." in said


def test_ids_are_of_the_whole_text(source: Path) -> None:
    dataset = scored(source, "data")
    record = next(iter(dataset))
    text = ROWS[0]["chosen"]
    assert record.response(response_id(record.query_id, text)).text == text
