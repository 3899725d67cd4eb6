"""Both recipes from the first step to the last, on a slice in the hub's own files, with tiny models instead of 8B ones.

The steps run in this process: what a process of its own adds is tested with the runner, and costs seconds a step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

import neat_data
from neat_data.cli import app as neat_data_app
from neat_data.sources import Row, open_source
from neat_train.cli import app as neat_train_app
from pipelines.run import commands, read_recipe, run
from tests.support.killing import ROOT

MODELS = ROOT / "data" / "models"
APPS = {"neat-data": neat_data_app, "neat-train": neat_train_app}
RECIPES = ("hh_rlhf", "ultrafeedback")
RUNS = ("sft", "dpo", "rrhf", "neat", "neat-pp")
# One step on four records, eight new tokens.
SETTINGS = {
    "max_steps": 1,
    "records_per_step": 4,
    "max_length": 256,
    "max_response": 16,
    "learning_rate": 1e-3,
    "rounds": {"queries": "step", "max_new_tokens": 8, "drop": []},
    "held_out": {"share": 0.2, "queries": 3, "samples_shown": 1},
}


@dataclass(frozen=True)
class Pair:
    """A row of the shipped sample."""

    prompt: str
    query: str
    chosen: str
    rejected: str


def pairs(first: int, count: int) -> list[Pair]:
    """Single-turn rows of the shipped sample."""
    rows = [row for row in open_source(str(ROOT / "data/sample/helpful.train.jsonl")).rows() if isinstance(row, Row)]
    single = [row for row in rows if len(row.messages) == 1][first : first + count]
    assert len(single) == count
    queries = [row.messages[0].content for row in single]
    return [
        Pair(f"\n\nHuman: {query}\n\nAssistant:", query, row.answers[0].text, row.answers[1].text)
        for query, row in zip(queries, single, strict=True)
    ]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)


def full_hh(folder: Path) -> Path:
    """Dahoas/full-hh-rlhf: 16 rows to train on, 4 to test with."""
    for name, part in (("train-00000-of-00001-8349d076", pairs(0, 16)), ("test-00000-of-00001-ec71e926", pairs(16, 4))):
        rows = [
            {"prompt": p.prompt, "response": f" {p.chosen}", "chosen": f" {p.chosen}", "rejected": f" {p.rejected}"}
            for p in part
        ]
        write_parquet(folder / "data" / f"{name}.parquet", rows)
    return folder


def ultrafeedback(folder: Path) -> Path:
    """openbmb/UltraFeedback: 16 queries with four completions each, two of them those of the test split too."""
    folder.mkdir()
    texts = [(p.query, [p.chosen, p.rejected, f"{p.chosen} I hope so.", "I do not know."]) for p in pairs(0, 16)]
    rows = [
        {
            "source": "flan",
            "instruction": query,
            "models": ["a", "b", "c", "d"],
            "completions": [
                {
                    "response": text,
                    "model": model,
                    "overall_score": 5.0,
                    "fine-grained_score": score,
                    "critique": "None.",
                    "principle": "honesty",
                    "custom_system_prompt": "Be honest.",
                    "annotations": {"honesty": {"Rating": "4", "Rationale": "It is."}},
                }
                for text, model, score in zip(answers, "abcd", (4.5, 3.0, 4.0, 1.0), strict=True)
            ],
            "correct_answers": ["None"],
            "incorrect_answers": ["None"],
        }
        for query, answers in texts
    ]
    (folder / "flan.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def binarized(folder: Path) -> Path:
    """HuggingFaceH4/ultrafeedback_binarized: its test_prefs, of which two queries are trained on elsewhere."""
    rows = []
    for p in pairs(14, 6):
        asked = {"content": p.query, "role": "user"}
        chosen = [asked, {"content": p.chosen, "role": "assistant"}]
        rejected = [asked, {"content": p.rejected, "role": "assistant"}]
        row = {"prompt": p.query, "prompt_id": "0f", "chosen": chosen, "rejected": rejected, "messages": chosen}
        rows.append({**row, "score_chosen": 8.5, "score_rejected": 6.0})
    write_parquet(folder / "data" / "test_prefs-00000-of-00001.parquet", rows)
    write_parquet(folder / "data" / "train_prefs-00000-of-00001.parquet", rows[:1])
    return folder


def given(name: str, folder: Path) -> list[str]:
    """What stands in for the recipe's hub names."""
    data = full_hh(folder / "hh") if name == "hh_rlhf" else ultrafeedback(folder / "uf")
    test = data if name == "hh_rlhf" else binarized(folder / "binarized")
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    return [
        f"data={data}",
        f"test_data={test}",
        f"policy={MODELS / 'tiny-policy'}",
        f"reward_model={MODELS / 'tiny-reward'}",
        f"heldout_model={MODELS / 'tiny-reward-heldout'}",
        f"settings={folder / 'settings.yaml'}",
        "score=--device cpu --quiet",
        "fit=--device cpu --quiet",
        "eval=--device cpu --quiet --limit 3 --max-new-tokens 8",
    ]


def in_this_process(words: Sequence[str]) -> int:
    status = APPS[words[0]](list(words[1:]), standalone_mode=False)
    return status if isinstance(status, int) else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_its_first_step_to_its_last(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    todo = commands(read_recipe(ROOT / "pipelines" / f"{name}.yaml"), out, given(name, tmp_path))
    lines: list[str] = []
    run(todo, in_this_process, lines.append)
    assert len(lines) == len(todo)

    train, test = (list(neat_data.open(str(out / part)).records()) for part in ("train", "test"))
    assert len(test) == (4 if name == "hh_rlhf" else 6)
    assert len(train) == (16 if name == "hh_rlhf" else 14)  # two queries of UltraFeedback are tested with
    assert {len(record.responses) for record in train} == ({2} if name == "hh_rlhf" else {4})
    assert not {record.query_id for record in train} & {record.query_id for record in test}
    for arm in RUNS:
        assert json.loads((out / arm / "result.json").read_text())
        assert (out / arm / "adapter_model.safetensors").is_file()
        figures = json.loads((out / arm / "eval" / "test" / "eval.json").read_text())
        assert figures["queries"]["count"] == 3
        assert list(figures["decodings"]["greedy"]["rewards"]) == ["tiny-reward", "tiny-reward-heldout"]
    assert json.loads((out / "dpo" / "settings.json").read_text())["settings"]["method"] == "dpo"
    table = (out / "compare.md").read_text()
    assert all(arm in table for arm in RUNS)
    assert "</html>" in (out / "compare.html").read_text()
