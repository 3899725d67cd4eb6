"""What the verdicts say together: counts by rater, prompt and reward, and where people or models disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import neat_data
from neat_data.cli import app
from neat_data.errors import InputError
from neat_data.record import Record
from neat_data.review.report import report
from neat_data.review.tables import tables
from neat_data.store.reviews import Event
from tests.support.growing import add_scores
from tests.support.reviewing import reviewed, say


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return reviewed(tmp_path / "data", records=4)


def _ids(record: Record) -> list[str]:
    """Source, first, second answer: rewards 1, -1.25, -2.5."""
    return [response.response_id for response in record.responses]


def _judge(folder: Path, rater: str, verdicts: str) -> None:
    """A letter for the first and the second answer of each record: k, d, or - for nothing."""
    records = list(neat_data.open(folder).records(dropped=True))
    words: dict[str, Any] = {"k": "keep", "d": "drop"}
    items = [identifier for record in records for identifier in _ids(record)[1:]]
    said = [(item, words[letter]) for item, letter in zip(items, verdicts, strict=True) if letter != "-"]
    say(folder, rater, *(Event(f"{rater}{n}", item, verdict) for n, (item, verdict) in enumerate(said)))


def test_counts_by_rater_prompt_and_quarter_of_the_rewards(folder: Path):
    _judge(folder, "ann", "kdkdkddk")
    _judge(folder, "bob", "kd------")
    made = report(neat_data.open(folder))
    assert [(one.rater, one.judged, one.kept, one.dropped) for one in made.raters] == [
        ("ann", 8, 4, 4),
        ("bob", 2, 1, 1),
    ]
    # 12 rewards: four each of -2.5, -1.25 and 1; the quarters end at -2.5, -1.25 and 1
    strata = {(s.prompt, s.quartile): (s.responses, s.judged, s.kept, s.dropped) for s in made.strata}
    assert strata == {("negative", 1): (4, 4, 1, 3), ("negative", 2): (4, 4, 3, 1)}
    assert made.left_out == 4


def test_raters_and_models_are_compared_the_same_way(folder: Path):
    _judge(folder, "ann", "kdkdkddk")
    _judge(folder, "bob", "kdkdkdkd")
    made = report(neat_data.open(folder))
    question = made.questions[0]
    assert question.name == "keep or drop"
    assert question.alpha.units == 8
    (two,) = question.raters
    assert (two.one, two.other, two.kappa.value) == ("ann", "bob", pytest.approx(0.5))  # 6 of 8, 4 by chance
    (model,) = question.models  # the two on which they differ are left out: no majority
    assert (model.other, model.kappa.units, model.kappa.value) == ("reward", 6, 1.0)
    assert question.models_alpha["reward"].value == 1.0


def test_a_further_model_stands_beside_the_datasets_own(folder: Path):
    add_scores(
        folder,
        "other",
        {f"{which} answer to {n}.": n for n in range(4) for which in ("First", "Second")} | {"Source.": 0.0},
    )
    _judge(folder, "ann", "kdkdkdkd")
    made = report(neat_data.open(folder))
    by_model = {two.other: two.kappa.value for two in made.questions[0].models}
    assert by_model["reward"] == 1.0
    assert by_model["other"] < 1.0


def test_where_a_model_contradicts_people_most_comes_first(folder: Path):
    _judge(folder, "ann", "dk------")
    records = list(neat_data.open(folder).records(dropped=True))
    source, first, second = _ids(records[1])
    say(folder, "bob", Event("1", source, "worse", than=second), Event("2", first, "same", than=second))
    made = report(neat_data.open(folder))
    assert [(case.preferred, case.other, case.gap) for case in made.contradictions] == [
        (second, source, 3.5),
        (_ids(records[0])[2], _ids(records[0])[1], 1.25),
    ]
    assert [question.name for question in made.questions] == ["keep or drop", "which is better"]


def test_what_splits_the_raters_is_told(folder: Path):
    _judge(folder, "ann", "kk------")
    _judge(folder, "bob", "dk------")
    (split,) = report(neat_data.open(folder)).splits
    assert (split.text, split.kept, split.dropped) == ("First answer to 0.", ("ann",), ("bob",))


def test_grades_are_compared_in_their_order(folder: Path):
    records = list(neat_data.open(folder).records())
    for rater, grades in (("ann", (1, 2, 4, 5)), ("bob", (1, 2, 5, 4))):
        graded = zip(records, grades, strict=True)
        say(folder, rater, *(Event(f"{rater}{g}", _ids(r)[1], "keep", scale=g) for r, g in graded))
    made = report(neat_data.open(folder))
    grade = made.questions[-1]
    assert (grade.name, grade.models) == ("grade", ())
    assert made.raters[0].grade == 3.0
    assert 0.7 < grade.alpha.value < 1.0


def test_nobody_has_judged_is_told(folder: Path):
    with pytest.raises(InputError, match="nobody has judged"):
        report(neat_data.open(folder))


def test_verdicts_on_responses_that_are_gone_are_counted_and_harm_nothing(folder: Path):
    say(folder, "ann", Event("1", "0" * 16, "drop"), Event("2", "0" * 16, "same", than="1" * 16))
    made = report(neat_data.open(folder))
    assert (made.raters[0].judged, made.questions, made.strata) == (1, (), ())


def test_the_command_prints_tables_or_one_object(folder: Path):
    _judge(folder, "ann", "kdkdkddk")
    printed = CliRunner().invoke(app, ["review", str(folder), "--report"])
    assert printed.exit_code == 0, printed.output
    assert "Who judged" in printed.output
    made = json.loads(CliRunner().invoke(app, ["review", str(folder), "--report", "--json"]).stdout)
    assert made["raters"][0]["rater"] == "ann"
    assert CliRunner().invoke(app, ["review", str(folder), "--json"]).exit_code == 2
    assert [table.title for table in tables(report(neat_data.open(folder)))][:2] == [
        "Who judged",
        "What was judged, by prompt and reward",
    ]
