"""What raters are asked and what is taken from them: pairs, edits, grades and labels of one's own, shared records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import neat_data
from neat_data.errors import InputError
from neat_data.review.judging import Review
from neat_data.review.rubric import ReviewRubric
from neat_data.review.tasks import Tasks
from neat_data.store.reviews import standing
from tests.support.growing import add_round
from tests.support.reviewing import reviewed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return reviewed(tmp_path / "data", records=4)


def _review(folder: Path, rubric: ReviewRubric | None = None, **chosen: Any) -> Review:
    return Review(Tasks.choose(neat_data.open(folder), **chosen), rubric=rubric or ReviewRubric())


def _keep_next(review: Review, rater: str) -> str | None:
    """Keep everything of the rater's next record; its query's id, None where there is nothing left."""
    page = review.page(rater, None)
    if page["record"] is None:
        return None
    for card in page["cards"]:
        review.take({"rater": rater, "event": f"{rater}{card['id']}", "response_id": card["id"], "verdict": "keep"})
    return page["record"].query_id


def test_a_pair_is_a_chosen_response_beside_another_of_its_record_once(folder: Path):
    tasks = Tasks.choose(neat_data.open(folder), mode="pairs")
    for record in neat_data.open(folder):
        negative = {response.response_id for response in record.responses if response.polarity == "negative"}
        pairs = [set(item.split()) for item in tasks.items[record.query_id]]
        assert set.union(*pairs) >= negative
        assert all(len(pair) == 2 and pair & negative for pair in pairs)
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    alone = {"polarities": ["all"], "where": "n_responses < 2"}
    with pytest.raises(InputError, match="beside another"):
        Tasks.choose(neat_data.open(folder), mode="pairs", **alone)


def test_which_of_two_is_worse_is_one_statement_whichever_stands_first(folder: Path):
    review = _review(folder, mode="pairs")
    page = review.page("ann", None)
    card = page["cards"][0]
    first, second = (answer["id"] for answer in card["answers"])
    told = {"rater": "ann", "event": "1", "response_id": second, "than": first, "verdict": "worse"}
    answer = review.take(told)
    assert (answer["done"], answer["last"]["than"]) == (1, first)
    assert sorted(answer["facts"]) == sorted([first, second])
    assert review.page("ann", page["place"])["cards"][0]["said"] == "second"
    review.take({**told, "event": "2", "response_id": first, "than": second, "verdict": "same"})
    opened = neat_data.open(folder)
    (event,) = standing(opened.reviews["ann"]).values()
    assert (event.verdict, event.subject) == ("same", card["id"])
    assert opened.dropped == frozenset()
    review.take({"rater": "ann", "event": "3", "response_id": first, "than": second, "undoes": "2"})
    assert review.page("ann", page["place"])["cards"][0]["said"] == "second"


def test_the_sides_of_a_pair_are_shuffled_by_rater(folder: Path):
    review = _review(folder, mode="pairs")
    page = review.page("ann", 0)
    place = {rater: review.tasks.order(rater).index(page["record"].query_id) for rater in "abcdefgh"}
    shown = {rater: review.page(rater, place[rater])["cards"] for rater in place}
    item = page["cards"][0]["id"]
    firsts = {next(card for card in cards if card["id"] == item)["answers"][0]["id"] for cards in shown.values()}
    assert firsts == set(item.split())


def test_an_edit_keeps_what_a_person_wrote(folder: Path):
    review = _review(folder, mode="edits")
    card = review.page("ann", None)["cards"][0]
    told = {"rater": "ann", "event": "1", "response_id": card["id"], "verdict": "edit", "text": " Better.\n"}
    review.take(told)
    opened = neat_data.open(folder)
    (event,) = opened.reviews["ann"]
    assert (event.verdict, event.text) == ("edit", "Better.")
    assert opened.dropped == frozenset()
    for wrong in ({"text": " \n"}, {"text": None}, {"text": "x" * 400_001}, {"verdict": "worse", "than": card["id"]}):
        with pytest.raises(InputError):
            review.take({**told, "event": "2", **wrong})


@pytest.mark.parametrize(
    ("mode", "told"),
    [("verdicts", {"verdict": "edit", "text": "a"}), ("verdicts", {"verdict": "same"}), ("pairs", {"verdict": "keep"})],
)
def test_a_mode_takes_its_own_verdicts_only(folder: Path, mode: Any, told: dict[str, Any]):
    review = _review(folder, mode=mode)
    item = review.page("ann", None)["cards"][0]["id"]
    ids = dict(zip(("response_id", "than"), item.split(), strict=False))
    with pytest.raises(InputError, match="is none of"):
        review.take({"rater": "ann", "event": "1", **ids, **told})


def test_own_labels_and_words_for_grades_come_from_a_file(folder: Path, tmp_path: Path):
    path = tmp_path / "labels.yaml"
    path.write_text("advice: Be strict.\nscale: {1: unusable}\nlabels: [rude, made up]\n")
    rubric = ReviewRubric.load(path)
    assert rubric == ReviewRubric("Be strict.", {1: "unusable"}, ("rude", "made up"))
    review = _review(folder, rubric)
    item = review.page("ann", None)["cards"][0]["id"]
    told = {"rater": "ann", "response_id": item, "verdict": "keep"}
    review.take({**told, "event": "1", "labels": ["made up", "rude"]})
    assert neat_data.open(folder).reviews["ann"][0].labels == ("rude", "made up")
    for wrong in (["dull"], "rude", [["rude"]], {"rude": 1}):
        with pytest.raises(InputError, match="labels"):
            review.take({**told, "event": "2", "labels": wrong})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[a]", "no mapping"),
        ("", "no mapping"),
        ("grades: 1", "no part 'grades'"),
        ("scale: {9: far}", "scale is"),
        ("scale: {true: far}", "scale is"),
        ("labels: rude", "labels is"),
        ("labels: [rude, rude]", "labels is"),
        ("labels: [1]", "labels is"),
        ("advice: [a]", "advice is"),
        ("a: [", "cannot be read"),
        ("a: !!python/object:os.system 1", "cannot be read"),
    ],
)
def test_a_file_that_says_something_else_is_told(tmp_path: Path, content: str, message: str):
    path = tmp_path / "labels.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        ReviewRubric.load(path)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        ReviewRubric.load(tmp_path / "none.yaml")


def test_a_share_of_the_records_goes_to_every_rater_and_the_others_to_who_comes_first(tmp_path: Path):
    folder = reviewed(tmp_path / "many", records=20)
    review = _review(folder, overlap=0.2)
    shared = review.tasks.shared
    assert len(shared) == 4
    ann = [_keep_next(review, "ann") for _ in range(10)]
    bob = list(iter(lambda: _keep_next(review, "bob"), None))
    assert set(ann) & set(bob) <= shared
    assert set(ann) | set(bob) == set(review.tasks.items)
    assert shared <= set(bob)
    done = review.page("bob", None)
    assert (done["done"], done["total"]) == (2 * len(bob), 2 * len(bob))
    ann += iter(lambda: _keep_next(review, "ann"), None)
    assert set(ann) == set(review.tasks.items) - (set(bob) - shared)


@pytest.mark.parametrize("overlap", [-0.1, 1.5, float("nan")])
def test_an_overlap_is_a_share(folder: Path, overlap: float):
    with pytest.raises(InputError, match="overlap"):
        _review(folder, overlap=overlap)


def test_a_record_is_read_from_its_own_shard_with_what_rounds_added(made_dataset: Any, record_of: Any):
    path = Path(made_dataset([record_of(f"q{n}", {"a": 1.0, "b": 0.0}) for n in range(5)], shard=2).path)
    add_round(path, {f"q{n}": {f"later {n}": -1.0} for n in range(5)})
    opened = neat_data.open(path)
    tasks, records = Tasks.choose(opened, polarities=["all"]), list(opened)
    assert [tasks.record(record.query_id, "ann")[0] for record in records] == records
    (path / "round-0000" / "00000.arrow").unlink()
    assert tasks.record(records[4].query_id, "ann")[0] == records[4]


def test_a_round_that_comes_while_people_judge_is_judged_by_the_next_start(folder: Path):
    review = _review(folder)
    add_round(folder, {f"Question {n}?": {"Third answer.": -4.0} for n in range(4)})
    assert len(review.tasks.query_of) == 8
    assert _keep_next(review, "ann") is not None
    assert len(_review(folder).tasks.query_of) == 12


def test_a_text_of_200_kilobytes_is_shown_whole(tmp_path: Path):
    folder = reviewed(tmp_path / "long", records=1, text="0123456789" * 20_000)
    (card, _) = _review(folder).page("ann", None)["cards"]
    assert len(card["answers"][0]["text"]) > 200_000
