"""The datasets of the recipes, in the files and columns that the hub has them in: small ones, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from neat_data.record import Message
from neat_data.sources import Reject, Row, SourceAnswer, open_source
from neat_data.sources.files.hub import Repository, select

ULTRAFEEDBACK_FILES = ("evol_instruct", "false_qa", "flan", "sharegpt", "truthful_qa", "ultrachat")
BINARIZED_SPLITS = ("train_prefs", "train_sft", "test_prefs", "test_sft", "train_gen", "test_gen")
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def completion(model: str, response: str, rating: str, overall: float, fine: float | None) -> dict[str, Any]:
    """One of UltraFeedback's, with what GPT-4 said of it."""
    annotations: dict[str, Any] = {aspect: {"Rating": rating, "Rationale": "Because."} for aspect in ASPECTS}
    annotations["helpfulness"] |= {"Type": ["1"], "Rationale For Rating": "It helps."}
    return {
        "annotations": annotations,
        "critique": "Add a source.",
        "custom_system_prompt": "As an AI assistant, be honest.",
        "fine-grained_score": fine,
        "model": model,
        "overall_score": overall,
        "principle": "honesty",
        "response": response,
    }


def ultrafeedback(instruction: str, completions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": "evol_instruct",
        "instruction": instruction,
        "models": [one["model"] for one in completions],
        "completions": completions,
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


FOUR = ultrafeedback(
    "Name a river. ",
    [
        completion("alpaca-7b", "The Rhine.", "4", 7.5, 4.0),
        completion("bard", "\nThe Nile, in Africa.", "5", 8.5, 4.75),
        completion("falcon-40b-instruct", "No.", "1", 10.0, 1.25),  # a 1 that was published as 10
        completion("gpt-4", "The Rhine.", "4", 7.5, 4.0),  # says what another says
    ],
)


def test_ultrafeedback_is_a_query_with_four_ranked_completions(tmp_path: Path) -> None:
    for name in ULTRAFEEDBACK_FILES:
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(FOUR) + "\n")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    source = open_source(str(tmp_path), split="train")
    rows = list(source.rows())
    assert source.format == "ultrafeedback"
    assert [row.place.name for row in rows] == [f"{name}.jsonl" for name in ULTRAFEEDBACK_FILES]
    row = rows[0]
    assert isinstance(row, Row), row
    assert row.messages == (Message("user", "Name a river."),)
    assert row.answers == (
        SourceAnswer("The Rhine.", 4.0, "alpaca-7b"),
        SourceAnswer("The Nile, in Africa.", 4.75, "bard"),
        SourceAnswer("No.", 1.25, "falcon-40b-instruct"),
    )
    assert row.order == (1, 0, 2)
    assert row.meta["left_out"][0]["reason"] == "identical_responses"
    # A completion's own system prompt is no part of the query that all four answer.
    assert row.meta["completions"][0]["custom_system_prompt"] == "As an AI assistant, be honest."
    assert row.meta["completions"][2]["overall_score"] == 10.0
    assert row.meta["source"] == "evol_instruct"


def test_ultrafeedback_rows_that_nobody_completed_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "flan.jsonl"
    path.write_text(json.dumps(ultrafeedback("Name a river.", [])) + "\n")
    (row,) = open_source(str(path), format="ultrafeedback").rows()
    assert isinstance(row, Reject)
    assert row.reason == "too_few_responses"


@pytest.mark.parametrize("mean", [None, float("nan")])
def test_a_completion_without_ratings_costs_nothing(tmp_path: Path, mean: float | None) -> None:
    """Ratings of N/A leave no mean of them: then the overall scores rank."""
    row = ultrafeedback("q", [completion("a", "A", "N/A", 6.0, mean), completion("b", "B", "3", 7.0, 3.0)])
    (tmp_path / "flan.jsonl").write_text(json.dumps(row))
    (record,) = open_source(str(tmp_path / "flan.jsonl")).rows()
    assert isinstance(record, Row)
    assert [answer.reward for answer in record.answers] == [6.0, 7.0]


def binarized(query: str, good: str, bad: str, best: float = 8.5, worst: float = 6.0) -> dict[str, Any]:
    asked = {"content": query, "role": "user"}
    chosen = [asked, {"content": good, "role": "assistant"}]
    return {
        "prompt": query,
        "prompt_id": "0f" * 32,
        "chosen": chosen,
        "rejected": [asked, {"content": bad, "role": "assistant"}],
        "messages": chosen,
        "score_chosen": best,
        "score_rejected": worst,
    }


def write_binarized(folder: Path) -> None:
    """One row a split, as Parquet, beside a card that names the splits."""
    (folder / "data").mkdir()
    for split in BINARIZED_SPLITS:
        rows = [binarized(f"What is {split}?", "A split.", "Nothing.")]
        if split == "test_prefs":
            rows += [binarized("A tie?", "Yes.", "No.", 7.0, 7.0), binarized("The same?", "Yes.", "Yes.")]
        pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")


@pytest.mark.parametrize("split", ["train_prefs", "train_sft"])
def test_binarized_ultrafeedback_is_read_by_its_own_splits(tmp_path: Path, split: str) -> None:
    write_binarized(tmp_path)
    (row,) = open_source(str(tmp_path), split=split).rows()
    assert isinstance(row, Row)
    assert row.place.split == split
    assert row.messages == (Message("user", f"What is {split}?"),)
    assert row.answers == (SourceAnswer("A split.", 8.5), SourceAnswer("Nothing.", 6.0))
    assert row.order == (0, 1)
    assert row.meta == {"prompt_id": "0f" * 32}  # `messages` repeats the chosen dialogue


def test_a_tie_of_binarized_ultrafeedback_prefers_nothing(tmp_path: Path) -> None:
    write_binarized(tmp_path)
    _, tied, same = open_source(str(tmp_path), split="test_prefs").rows()
    assert isinstance(tied, Row)
    assert tied.order == ()
    assert isinstance(same, Reject)
    assert same.reason == "identical_responses"


def test_the_card_of_binarized_ultrafeedback_leads_to_its_splits() -> None:
    files = tuple(f"data/{split}-00000-of-00001.parquet" for split in BINARIZED_SPLITS)
    config = {
        "config_name": "default",
        "data_files": [{"split": split, "path": f"data/{split}-*"} for split in BINARIZED_SPLITS],
    }
    files_selected = select(Repository("HuggingFaceH4/ultrafeedback_binarized", "c0ffee", files, (config,)), None)
    assert {file.split: file.key for file in files_selected} == dict(zip(BINARIZED_SPLITS, files, strict=True))


def test_openbmb_ultrafeedback_is_one_train_split_on_the_hub() -> None:
    names = (".gitattributes", "README.md", *(f"{name}.jsonl" for name in ULTRAFEEDBACK_FILES))
    files_selected = select(Repository("openbmb/UltraFeedback", "c0ffee", names, ()), None)
    assert [file.key for file in files_selected] == [f"{name}.jsonl" for name in ULTRAFEEDBACK_FILES]
    assert {file.split for file in files_selected} == {None}


def test_full_hh_repeats_the_chosen_response_in_a_column_of_its_own(tmp_path: Path) -> None:
    prompt = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Name a river.\n\nAssistant:"
    row = {"prompt": prompt, "response": " The Rhine.", "chosen": " The Rhine.", "rejected": " No."}
    (tmp_path / "data").mkdir()
    name = "data/test-00000-of-00001-ec71e9262143a91c.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    (record,) = open_source(str(tmp_path), split="test").rows()
    assert isinstance(record, Row)
    assert [turn.content for turn in record.messages] == ["Hi.", "Hello.", "Name a river."]
    assert record.answers == (SourceAnswer("The Rhine."), SourceAnswer("No."))
    assert record.order == (0, 1)
    assert record.meta == {}
