"""The dataset card: figures, escaping, and no trace of where or when it was made."""

from __future__ import annotations

import shutil
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

import neat_data
from neat_data.analysis.stats import PAPER_MODEL, compute
from neat_data.record import Record, Response, response_id, to_table
from neat_data.report.card import Export, card, plain
from neat_data.store.folder import DatasetFolder


def test_the_card_tells_the_figures_and_what_was_rejected(record_of, made_dataset):
    records = [
        record_of("one", {"a": 3.0, "b": 1.0}, [("a", "b")]),
        record_of("two", {"a": 0.0, "b": 0.5}, [("a", "b")]),
    ]
    dataset = made_dataset(records, rejected=["bad_unicode"])
    text = card(dataset, compute(dataset))
    assert "2 queries with 4 responses and their rewards. Made from 3 source rows, 1 of them rejected." in text
    assert r"| \|gap\| \> 1 | 50.0 % | 9.5 to 90.5 | 1 |" in text
    assert r"| bad\_unicode | 1 |" in text
    assert "| 0 | source | – | 2 | 4 | 1.12 | complete |" in text
    assert "Content warning" in text
    assert "- model: tiny" in text


def test_names_from_the_dataset_are_escaped(record_of, made_dataset):
    hostile = "](http://x)<script>|`*_\n# big\x1b www.x.org"
    record = record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")], origin=hostile)
    dataset = made_dataset([record], rejected=[hostile], model=hostile)
    text = card(dataset, compute(dataset))
    assert "<script>" not in text
    assert "](http" not in text.replace(r"\]", "")
    assert "http://" not in text
    assert "\n# big" not in text
    assert "\x1b" not in text
    assert text.count(plain(hostile)) == 3


def test_the_card_is_the_same_wherever_the_dataset_lies(record_of, made_dataset, tmp_path):
    dataset = made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])])
    text = card(dataset, compute(dataset))
    moved = tmp_path / "else" / "where"
    shutil.copytree(tmp_path / "made", moved)
    again = neat_data.open(str(moved))
    assert card(again, compute(again)) == text
    assert str(tmp_path) not in text


def test_a_dataset_of_nothing_has_a_card(made_dataset):
    dataset = made_dataset([])
    assert "No source row was rejected." in card(dataset, compute(dataset))


POLICY = {"policy": {"model": "org/policy@abc", "backend": "transformers"}, "seed": 1}
PROMPTS = {
    "name": "neat",
    "prompts": [
        {"name": "worse", "polarity": "negative", "text": "Be <b>bad</b>.", "placement": "last_user"},
        {"name": "bare", "polarity": None, "text": None, "placement": "last_user"},
    ],
}


def grown(dataset):
    """`dataset` with a round of one negative response of reward -7 to its first record."""
    (record, *_) = dataset.records()
    identifier = response_id(record.query_id, "bad")
    bad = Response(identifier, "bad", -7.0, origin="sampled", polarity="negative", round=1)
    with DatasetFolder.claim(Path(dataset.path)) as folder:
        folder.begin(dataset.manifest.settings, versions={})
        folder.begin_round("expand", {**POLICY, "prompts": PROMPTS}, versions={})
        folder.record(1, folder.commit(1, 0, to_table([Record(record.query_id, (), (bad,))]), [], {}))
        folder.finish(1, {})
    return neat_data.open(dataset.path)


def test_the_card_tells_rounds_and_prompts(record_of, made_dataset):
    dataset = grown(made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])]))
    text = card(dataset, compute(dataset))
    assert "| 0 | source | – | 1 | 2 | 0.500 | complete |" in text
    assert "| 1 | org/policy@abc | neat | 1 | 1 | -7.00 | complete |" in text
    assert "**worse** (negative, in front of the last user turn):\n\n> Be \\<b\\>bad\\</b\\>." in text
    assert "**bare**: the bare query." in text
    assert "1 responses were sampled under a prompt that asks for bad answers on purpose." in text


def test_the_header_is_the_hubs(record_of, made_dataset, tmp_path):
    dataset = grown(made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])]))
    with DatasetFolder.claim(Path(dataset.path)) as folder:
        folder.write_card(card(dataset, compute(dataset)))
    loaded = DatasetCard.load(Path(dataset.path) / "README.md")
    known = DatasetCardData(**loaded.data.to_dict()).to_dict()
    assert known["license"] == "unknown"
    assert known["task_categories"] == ["text-generation"]
    assert known["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in known["configs"]] == ["default", "round-0001"]


def test_the_configurations_open_the_shards(record_of, made_dataset, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    records = [record_of(f"q{n}", {"a": 1.0, "b": 0.0}, [("a", "b")]) for n in range(5)]
    dataset = grown(made_dataset(records))
    with DatasetFolder.claim(Path(dataset.path)) as folder:
        folder.write_card(card(dataset, compute(dataset)))
    opened = datasets.load_dataset(dataset.path, split="train")
    assert opened.to_list() == [record.to_dict() for record in records]
    assert datasets.load_dataset(dataset.path, "round-0001", split="train")[0]["responses"][0]["reward"] == -7.0


def test_the_licence_of_the_papers_reward_model_is_told(record_of, made_dataset):
    records = [record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])]
    theirs = made_dataset(records, model=f"{PAPER_MODEL}@abc", name="theirs")
    assert "licence is cc-by-nc-4.0" in card(theirs, compute(theirs))
    other = made_dataset(records, name="other")
    assert "not recorded here; look it up" in card(other, compute(other))


def test_the_card_of_a_copy_says_what_was_left_out(record_of, made_dataset):
    dataset = grown(made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])]))
    copy = Export(records=1, left_out=1, polarities=("none", "positive"), license="mit", on_hub=True)
    text = card(dataset, compute(dataset), copy)
    assert "1 responses were left out: only those of polarity none, positive are here." in text
    assert "asks for bad answers" not in text
    assert "license: mit\n" in text
    assert "configs" not in text
