"""Exporting a dataset: every record accounted for, every file whole, and nothing taken that was not asked for."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from typer.testing import CliRunner

import neat_data
from neat_data.cli import app
from neat_data.errors import InputError, RunError
from neat_data.formats.export import ExportRequest, export
from neat_data.formats.write import write
from neat_data.record import SCHEMA, Record, Response, response_id
from tests.support.growing import add_scores


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "own-cache"))


def sampled(record: Record, text: str, reward: float, polarity: Any, **fields: Any) -> Record:
    """`record` with one more response, as if sampled under a prompt of `polarity`."""
    identifier = response_id(record.query_id, text)
    more = Response(identifier, text, reward, origin="sampled", polarity=polarity, model="policy", **fields)
    return replace(record, responses=(*record.responses, more)).ranked()


@pytest.fixture
def mixed(record_of, made_dataset):
    """Five records: a plain pair, a tie, a single response, an unscored one, and one with sampled responses."""
    grown = record_of(["hi", "Hello!", "five"], {"a": 2.0, "b": 1.0}, [("b", "a")])
    grown = sampled(grown, "bad", -3.0, "negative", finished=False, seed=7, tokens=(1, 2))
    grown = sampled(grown, "good", 4.0, "positive", finished=True)
    return made_dataset(
        [
            record_of("one", {"a": 3.0, "b": 1.0}, [("b", "a")]),
            record_of("two", {"a": 1.0, "b": 1.0}, [("a", "b")]),
            record_of("three", {"a": 1.0}, [("a",)], verdict=True),
            record_of("four", {"a": 1.0, "b": None}, [("a", "b")]),
            grown,
        ]
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers(row: dict[str, Any]) -> tuple[str, str]:
    return row["chosen"][0]["content"], row["rejected"][0]["content"]


def test_every_record_gives_rows_or_a_reason(mixed, tmp_path):
    summary = export(mixed, ExportRequest("trl-dpo", tmp_path / "a.jsonl"))
    rows = lines(tmp_path / "a.jsonl")
    assert [answers(row) for row in rows] == [("a", "b"), ("good", "bad")]
    assert rows[1]["prompt"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "five"},
    ]
    assert (rows[1]["rejected_polarity"], rows[1]["rejected_unfinished"]) == ("negative", True)
    assert (rows[0]["rejected_polarity"], rows[1]["chosen_unfinished"]) == ("none", False)
    assert (summary.records, summary.exported, summary.rows, summary.negative) == (5, 2, 2, 1)
    assert summary.skipped == Counter(tie=1, one_response=1, no_reward=1)


def test_people_decide_where_they_are_asked(mixed, tmp_path):
    summary = export(mixed, ExportRequest("trl-dpo", tmp_path / "a.jsonl", pairs="labels"))
    assert [answers(row) for row in lines(tmp_path / "a.jsonl")] == [("b", "a"), ("a", "b"), ("a", "b"), ("b", "a")]
    assert summary.skipped == Counter(no_label=1)


def test_reward_pairs_tell_their_margin(mixed, tmp_path):
    export(mixed, ExportRequest("trl-reward", tmp_path / "a.parquet", pairs="all", min_gap=1.5))
    rows = pl.read_parquet(tmp_path / "a.parquet")
    assert sorted(rows["margin"]) == [2.0, 2.0, 3.0, 4.0, 5.0, 7.0]
    summary = export(mixed, ExportRequest("trl-reward", tmp_path / "b.jsonl", pairs="labels"))
    assert [row["margin"] for row in lines(tmp_path / "b.jsonl")] == [-2.0, 0.0, -1.0]
    assert summary.skipped == Counter(no_label=1, no_reward=1)


def test_completions_are_the_best_or_the_chosen(mixed, tmp_path):
    export(mixed, ExportRequest("trl-sft", tmp_path / "best.jsonl"))
    export(mixed, ExportRequest("trl-sft", tmp_path / "chosen.jsonl", pairs="labels"))
    best = [row["completion"][0]["content"] for row in lines(tmp_path / "best.jsonl")]
    assert (best[0], best[2:]) == ("a", ["a", "a", "good"])
    chosen = [row["completion"][0]["content"] for row in lines(tmp_path / "chosen.jsonl")]
    assert chosen == ["b", "a", "a", "a", "b"]


def test_verdicts_come_before_rewards(mixed, tmp_path):
    def judged(**options: Any) -> list[tuple[str, bool]]:
        out = tmp_path / "kto.jsonl"
        export(mixed, ExportRequest("trl-kto", out, overwrite=True, **options))
        return [(row["completion"][0]["content"], row["label"]) for row in lines(out)]

    extremes = [("a", True), ("b", False), ("good", True), ("bad", False)]
    assert judged() == [*extremes[:2], ("a", True), *extremes[2:]]
    assert judged(pairs="best-worst") == extremes
    pair = [("a", True), ("b", False)]
    assert judged(pairs="labels") == [("b", True), ("a", False), *pair, ("a", True), *pair, ("b", True), ("a", False)]


def test_parquet_holds_every_response(mixed, tmp_path):
    export(mixed, ExportRequest("parquet", tmp_path / "a.parquet"))
    frame = pl.read_parquet(tmp_path / "a.parquet")
    expected = mixed.scan().collect()
    assert frame.select(expected.columns).to_dicts() == expected.to_dicts()
    turns = {record.query_id: [message.content for message in record.messages] for record in mixed.records()}
    assert all([turn["content"] for turn in row["messages"]] == turns[row["query_id"]] for row in frame.to_dicts())


def test_a_folder_is_what_every_reader_gives(mixed, tmp_path):
    import datasets

    export(mixed, ExportRequest("hf", tmp_path / "copy", license="mit", language="en"))
    loaded = datasets.load_from_disk(str(tmp_path / "copy"))
    assert loaded.to_list() == mixed.to_hf().to_list()
    assert loaded.features == mixed.to_hf().features
    (tmp_path / "copy" / "state.json").unlink()  # a folder that was uploaded by hand, as the hub would open it
    assert datasets.load_dataset(str(tmp_path / "copy"), split="train").to_list() == loaded.to_list()
    card = DatasetCard.load(tmp_path / "copy" / "README.md")
    assert (card.data.license, card.data.language, card.data.size_categories) == ("mit", ["en"], ["n<1K"])
    assert "This is a copy of 5 of its records." in card.text


def test_the_same_export_is_the_same_bytes(mixed, tmp_path):
    for name in ("one", "two"):
        for to, out in (("hf", name), ("parquet", f"{name}.parquet"), ("rrhf", f"{name}.json")):
            export(mixed, ExportRequest(to, tmp_path / name / out))
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert len(files) == 6
    for path in files:
        other = Path(str(path).replace("one", "two"))
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / other).read_bytes(), path


def test_records_and_responses_can_be_chosen(mixed, tmp_path):
    out = tmp_path / "a.parquet"
    summary = export(mixed, ExportRequest("parquet", out, where="turns > 1", polarities=("negative", "positive")))
    assert sorted(pl.read_parquet(out)["text"]) == ["bad", "good"]
    assert (summary.records, summary.responses_left_out) == (1, 2)
    summary = export(mixed, ExportRequest("parquet", out, limit=2, overwrite=True))
    assert (summary.records, summary.rows) == (2, 4)
    summary = export(mixed, ExportRequest("parquet", out, polarities=("negative",), overwrite=True))
    assert (summary.rows, summary.skipped) == (1, Counter(no_response=4))


def test_other_scores_rank_and_choose(mixed, tmp_path):
    import datasets

    scores = {"a": 1.0, "b": 2.0, "good": -1.0, "bad": None}
    add_scores(Path(mixed.path), "other", scores)
    opened = neat_data.open(mixed.path)
    out = tmp_path / "a.jsonl"
    summary = export(opened, ExportRequest("trl-dpo", out, rank_by="other", where="n_responses = 3"))
    assert [answers(row) for row in lines(out)] == [("b", "good")]
    assert summary.without_score == 1
    export(opened, ExportRequest("hf", tmp_path / "copy", rank_by="other"))
    copied = datasets.load_from_disk(str(tmp_path / "copy"))
    assert copied.to_list() == opened.to_hf(rank_by="other").to_list()
    assert "Its rewards are those of other" in (tmp_path / "copy" / "README.md").read_text()


def test_responses_that_people_dropped_are_left_out(mixed, tmp_path):
    folder = Path(mixed.path)
    best = next(mixed.records()).responses[0].response_id
    (folder / "reviews").mkdir()
    (folder / "reviews" / "ann.jsonl").write_text(json.dumps({"response_id": best, "verdict": "drop"}))
    export(neat_data.open(folder), ExportRequest("parquet", tmp_path / "a.parquet"))
    assert best not in pl.read_parquet(tmp_path / "a.parquet")["response_id"]


def test_what_is_there_is_not_overwritten_unasked(mixed, tmp_path):
    import datasets

    for to, name in (("trl-dpo", "a.jsonl"), ("hf", "a")):
        out = tmp_path / name
        export(mixed, ExportRequest(to, out))
        with pytest.raises(InputError, match="say overwrite"):
            export(mixed, ExportRequest(to, out))
        export(mixed, ExportRequest(to, out, where="turns > 1", overwrite=True))
    assert len(lines(tmp_path / "a.jsonl")) == len(datasets.load_from_disk(str(tmp_path / "a"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.jsonl", "made"]


def test_what_the_user_wrote_into_the_card_survives_the_next_export(mixed, tmp_path):
    export(mixed, ExportRequest("hf", tmp_path / "a"))
    readme = tmp_path / "a" / "README.md"
    readme.write_text(readme.read_text().replace("---\n", "---\nmine: kept\n", 1) + "my words\n")
    export(mixed, ExportRequest("hf", tmp_path / "a", license="mit", where="turns > 1", overwrite=True))
    card = DatasetCard.load(readme)
    assert (card.data.mine, card.data.license) == ("kept", "mit")
    assert card.text.endswith("my words\n")
    assert "This is a copy of 1 of its records." in card.text


@pytest.mark.parametrize("name", ["made", "a.parquet"])
def test_another_folder_or_kind_is_never_overwritten(mixed, tmp_path, name):
    (tmp_path / "a.parquet").mkdir()
    (tmp_path / "a.parquet" / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"holds what no export wrote|is a folder"):
        export(mixed, ExportRequest("trl-dpo", tmp_path / name, overwrite=True))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("container", ["lines", "parquet", "folder"])
def test_what_fails_on_the_way_leaves_no_trace(mixed, tmp_path, container):
    out = tmp_path / "out" / "copy"
    if container == "folder":
        export(mixed, ExportRequest("hf", out))
    else:
        out.parent.mkdir()
        out.write_text("what was there")
    before = {path: path.is_file() and path.read_bytes() for path in out.parent.rglob("*")}

    def batches():
        yield [next(iter(mixed.records())).to_dict()]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match="disk is full"):
        write(out, container, SCHEMA, batches())
    assert {path: path.is_file() and path.read_bytes() for path in out.parent.rglob("*")} == before


def test_a_folder_that_cannot_be_replaced_stays(mixed, tmp_path, monkeypatch):
    export(mixed, ExportRequest("hf", tmp_path / "copy"))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    rename = Path.rename

    def fail_at_last(path: Path, target: Path) -> Path:
        if path.name == "dataset":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_at_last)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        export(mixed, ExportRequest("hf", tmp_path / "copy", limit=1, overwrite=True))
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_parquet_and_lines_need_no_heavy_library(mixed, tmp_path):
    program = (
        "import sys; from pathlib import Path; import neat_data; from neat_data.formats.export import *\n"
        "for to, name in (('parquet', 'a.parquet'), ('trl-dpo', 'a.jsonl')):\n"
        "    export(neat_data.open(sys.argv[1]), ExportRequest(to, Path(sys.argv[2]) / name))\n"
        "print([*sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, mixed.path, str(tmp_path)], capture_output=True, check=True)
    loaded = done.stdout.decode()
    for heavy in ("torch", "transformers", "datasets", "matplotlib"):
        assert f"'{heavy}'" not in loaded


def test_nothing_to_export_writes_nothing(mixed, tmp_path):
    with pytest.raises(
        InputError, match=r"5 records gave no row \(gap_too_small 2, no_reward 1, one_response 1, tie 1\)"
    ):
        export(mixed, ExportRequest("trl-dpo", tmp_path / "a.jsonl", min_gap=100))
    with pytest.raises(InputError, match="none was chosen"):
        export(mixed, ExportRequest("hf", tmp_path / "a", where="turns > 9"))
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"to": "rrhf", "out": "a.parquet"}, "ends in .json or .jsonl"),
        ({"to": "hf", "out": "a.jsonl"}, "writes a folder"),
        ({"to": "parquet", "out": "a"}, "ends in .parquet"),
        ({"to": "rrhf", "out": "a.json", "pairs": "all"}, "pairs all: rrhf takes none"),
        ({"to": "trl-kto", "out": "a", "pairs": "all"}, "pairs all: trl-kto takes best-worst or labels or reviews"),
        ({"to": "trl-sft", "out": "a", "min_gap": 1.0}, "min_gap 1.0: trl-sft makes no pairs"),
        ({"to": "trl-dpo", "out": "a", "min_gap": -1.0}, "from 0 up"),
        ({"to": "hf", "out": "a", "polarities": ("bad",)}, "polarities 'bad': is none of"),
        ({"to": "hf", "out": "a", "public": True}, "go with push_to_hub"),
        ({"to": "trl-dpo", "out": "a", "push_to_hub": "me/a"}, "goes with the format hf"),
        ({"to": "hf", "out": "a", "push_to_hub": "me/a", "polarities": ("negative",)}, "say include_negative"),
        ({"to": "hf", "out": "a", "where": "gap >"}, "where 'gap >'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(mixed, tmp_path, request_, words):
    with pytest.raises(InputError, match=words):
        export(mixed, ExportRequest(**{**request_, "out": tmp_path / request_["out"]}))
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_from_the_command_line(mixed, tmp_path):
    out = tmp_path / "a.jsonl"
    result = CliRunner().invoke(app, ["export", mixed.path, "--to", "trl-dpo", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert (counts["records"], counts["rows"], counts["skipped"]) == (
        5,
        2,
        {"no_reward": 1, "one_response": 1, "tie": 1},
    )
    again = CliRunner().invoke(app, ["export", mixed.path, "--to", "trl-dpo", "--out", str(out)])
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists already" in again.stderr
    result = CliRunner().invoke(app, ["export", mixed.path, "--to", "trl-dpo", "--out", str(out), "--overwrite"])
    assert "5 records: 2 gave 2 rows of trl-dpo.\nleft out, too few rewards: 1 records" in result.stdout
    assert "1 responses sampled under a negative prompt were taken in." in result.stdout


def test_a_scored_sample_goes_through_every_format(scored_sample, tmp_path):
    opened = neat_data.open(str(scored_sample))
    for to, name in (("trl-dpo", "a.jsonl"), ("trl-sft", "b"), ("trl-kto", "c.json"), ("trl-reward", "d.parquet")):
        summary = export(opened, ExportRequest(to, tmp_path / name))
        assert summary.records == 24 == summary.exported
    assert pq.read_table(tmp_path / "d.parquet").num_rows == 24
