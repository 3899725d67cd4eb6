"""The search for reward models and the experiment on prompts, whole, with the tiny policy in SmolLM2's place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml

from neat_data.store.dataset import PreferenceDataset
from pipelines.smollm2 import prompted, reward, rows
from pipelines.tiny_models.rows import to_pair

POLICY = "data/models/tiny-policy"
SETTINGS = {
    "in_context": 0.5,
    "short_query": 0.3,
    "test_rows": 4,
    "shared": {"records_per_step": 4, "eval_steps": 0.5, "eval_on_start": False, "save_strategy": "no", "max_steps": 2},
    "models": {
        "a": {"seed": 0, "shared": {"lora.r": 2}, "trials": [{"learning_rate": 1e-3}, {"learning_rate": 1e-4}]},
        "b": {"seed": 1, "shared": {"lora.r": 2}, "trials": [{"learning_rate": 1e-3}]},
    },
}


def write_rows(file: Path, name: str, count: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = [f"\n\nHuman: What is {name} number {n}?\n\nAssistant:" for n in range(count)]
    lines = [json.dumps({"chosen": f"{text} A good one.", "rejected": f"{text} Go away."}) + "\n" for text in texts]
    file.write_bytes(gzip.compress("".join(lines).encode()))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of both kinds, of which A and B have a half each."""
    folder, every = tmp_path / "data", []
    for kind, test in rows.TESTS.items():
        write_rows(folder / "hh-rlhf-single-turn" / f"{kind}.jsonl.gz", f"{kind} thing", 24)
        write_rows(folder / "hh-rlhf" / test, f"{kind} test", 5)
        every += rows.read_kind(folder / "hh-rlhf-single-turn", kind)
    ids = sorted(pair.query_id for pair in every)
    monkeypatch.setattr(rows, "ids_of", lambda name: frozenset(ids[name == "b" :: 2]))
    monkeypatch.setattr(rows, "VALIDATION", 6)
    return folder


def test_the_rows_of_a_model_are_those_of_its_half_less_what_is_tested(data: Path) -> None:
    first = next(iter(rows.read_kind(data / "hh-rlhf-single-turn", "helpful")))
    tested = data / "hh-rlhf" / rows.TESTS["helpful"]
    row = {"chosen": "\n\nHuman: x\n\nAssistant: y", "rejected": "\n\nHuman: x\n\nAssistant: z"}
    train, validation = rows.pairs_of("a", data)
    assert (len(train), len(validation)) == (18, 6)
    query = (train + validation)[0].query[0].content
    row = {name: text.replace("x", query) for name, text in row.items()}
    tested.write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    left = [pair.query_id for part in rows.pairs_of("a", data) for pair in part]
    assert len(left) == 23
    assert to_pair("helpful", row["chosen"], row["rejected"]).query_id not in left
    assert first.unusable is None


@pytest.mark.slow
def test_both_experiments_from_rows_to_figures(data: Path, tmp_path: Path, capsys) -> None:
    settings, out = tmp_path / "settings.yaml", tmp_path / "out"
    settings.write_text(yaml.safe_dump(SETTINGS))
    given = ["--data", str(data), "--out", str(out / "reward"), "--base", POLICY, "--settings", str(settings)]
    assert reward.main(given) == 0
    chosen = json.loads((out / "reward" / "chosen.json").read_bytes())
    accuracies = [trial["validation_accuracy"] for trial in chosen["a"]["trials"]]
    assert accuracies[chosen["a"]["taken"]] == max(accuracies)
    figures = json.loads((out / "reward" / "agreement.json").read_bytes())
    assert figures["helpful"]["all"]["reward"]["pairs"] == 4
    capsys.readouterr()
    assert reward.main(given) == 0, "the same command goes on"
    assert capsys.readouterr().err == "", "and nothing is run again"

    shipped = [str(out / "reward" / name) for name in reward.SHIPPED.values()]
    asked = ["--reward-model", shipped[0], "--held-out-model", shipped[1], "--policy", POLICY, "--queries", "4"]
    assert prompted.main(["--data", str(data), "--out", str(out / "prompted"), *asked, "--max-new-tokens", "8"]) == 0
    made = json.loads((out / "prompted" / "prompts.json").read_bytes())
    assert list(made["both"]["prompts"]) == prompted.prompts()
    sampled = [r for record in PreferenceDataset.open(str(out / "prompted" / "harmless")) for r in record.responses]
    kept = sum(content["answers"] for content in made["harmless"]["prompts"].values())
    assert kept == sum(response.origin == "sampled" for response in sampled)
    assert "### harmless: What is harmless test number" in (out / "prompted" / "samples.md").read_text()
