"""`expand`, `review` and `fit` in a row: what people dropped is in no training batch, what they wrote is in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import neat_data as nd
from neat_data.cli import app
from neat_data.errors import InputError
from neat_data.review.judging import Review
from neat_data.review.tasks import Tasks
from neat_train.config.reading import read_settings
from neat_train.data.examples import Example
from neat_train.data.records import Records
from neat_train.fitting import FitRequest, FitSummary, fit
from neat_train.training import trainer
from tests.support.killing import ROOT

SOURCE, REWARD, POLICY = (
    ROOT / "data" / name for name in ("sample/helpful.train.jsonl", "models/tiny-reward", "models/tiny-policy")
)
EDIT = "I would rather not say."
SETS = (
    "method=rrhf",
    "max_steps=3",
    "records_per_step=4",
    "eval_strategy=no",
    "max_length=256",
    "max_response=64",
    "device=cpu",
)


def _review(folder: Path) -> dict[str, str]:
    """Rewrite one of the sampled responses, and drop every second one of the others; ids by what was said."""
    review = Review(Tasks.choose(nd.open(folder), polarities=["all"], where=None, mode="edits"))
    sampled = [r.response_id for record in nd.open(folder) for r in record.responses if r.origin == "sampled"]
    verdicts = ["edit", *(("drop", "keep")[n % 2] for n in range(len(sampled) - 1))]
    for number, (response, verdict) in enumerate(zip(sampled, verdicts, strict=True)):
        told = {"rater": "ann", "event": f"e{number}", "response_id": response, "verdict": verdict}
        review.take({**told, "text": EDIT} if verdict == "edit" else told)
    return dict(zip(sampled, verdicts, strict=True))


def test_what_people_dropped_is_in_no_training_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "data"
    nd.score(SOURCE, out=folder, reward_model=REWARD, limit=6, dtype="float32", progress=False)
    nd.expand(folder, policy=POLICY, num_samples=2, max_new_tokens=6, progress=False)
    verdicts = _review(folder)
    done = CliRunner().invoke(app, ["expand", str(folder), "--edits"])
    assert done.exit_code == 0, done.output
    assert "complete already" in CliRunner().invoke(app, ["expand", str(folder), "--edits"]).output

    trained: set[str] = set()
    make = trainer.micro_batches

    def seen(examples: list[Example], *arguments: Any) -> Any:
        trained.update(answer.response_id for example in examples for answer in example.answers)
        return make(examples, *arguments)

    monkeypatch.setattr(trainer, "micro_batches", seen)
    fit(FitRequest(str(folder), str(POLICY), tmp_path / "run", read_settings(sets=SETS)))
    opened = nd.open(folder)
    (written,) = (r for record in opened for r in record.responses if r.origin == "human")
    assert (written.text, written.round, written.reward is None) == (EDIT, 2, False)
    by_verdict = {word: {r for r, verdict in verdicts.items() if verdict == word} for word in ("drop", "keep", "edit")}
    assert by_verdict["drop"] == opened.dropped
    assert not trained & opened.dropped
    shown = [{response.response_id for response in record.responses} for record in opened]
    assert trained == set().union(*(ids for ids in shown if ids & trained))  # of a record, everything that is left
    assert trained & by_verdict["keep"]
    (edited,) = by_verdict["edit"]
    assert (written.response_id, edited) in {label.order for record in opened.reviewed() for label in record.labels}


def test_reviewers_verdicts_are_learned_in_the_place_of_the_sources_labels(tmp_path: Path):
    folder = tmp_path / "data"
    nd.score(SOURCE, out=folder, reward_model=REWARD, limit=6, dtype="float32", progress=False)
    sets = ("max_steps=1", "records_per_step=4", "eval_strategy=no", "max_length=256", "max_response=128", "device=cpu")

    def trained(name: str, *more: str) -> FitSummary:
        return fit(FitRequest(str(folder), str(REWARD), tmp_path / name, read_settings(sets=(*sets, *more))))

    reviews = ("method=reward", "labels=reviews", "held_out.share=0")
    with pytest.raises(InputError, match="nobody has reviewed it"):
        trained("run", *reviews)
    with pytest.raises(InputError, match="labels reviews and method rrhf, which learns from rewards"):
        trained("run", "method=rrhf", "labels=reviews")
    review = Review(Tasks.choose(nd.open(folder), polarities=["all"], where=None))
    one, other = nd.open(folder)[0], nd.open(folder)[1]
    for number, response in enumerate((*one.responses, *other.responses)):
        verdict = ("drop", "keep")[number % 2]
        review.take({"rater": "ann", "event": f"e{number}", "response_id": response.response_id, "verdict": verdict})
    assert Records.open(str(folder), reviewed=True).ids == (one.query_id, other.query_id)
    summary = trained("run", *reviews)
    line = json.loads((summary.run / "metrics.jsonl").read_text().splitlines()[0])
    assert (line["records"], line["responses"], line["labels"]) == (2, 4, 6)  # an order and two verdicts each
    assert "labels" in (tmp_path / "run" / "settings.json").read_text()
