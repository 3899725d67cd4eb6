"""What follows from verdicts that are written by hand, and how a judge's answers are read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from neat_data.errors import InputError
from neat_data.record import Message
from neat_train.judging.prompt import DEFAULT, Preference, load_judge_prompt
from neat_train.judging.verdicts import JudgedPair, Said, agreement, figures, outcome, position_bias, tokens


def pair(forward: Preference | None, backward: Preference | None, a: int = 10, b: int = 10) -> JudgedPair:
    orders = (Said(forward, "text", None, 100, 5), Said(backward, "text", None, 100, 5))
    return JudgedPair("query", "a", "b", a, b, *orders)


@pytest.mark.parametrize(
    ("forward", "backward", "verdict"),
    [
        ("first", "second", "win"),
        ("second", "first", "lose"),
        ("tie", "tie", "tie"),
        ("first", "first", "tie"),  # the place decided
        ("second", "second", "tie"),
        ("first", "tie", "tie"),
        ("tie", "first", "tie"),
        (None, "second", "unreadable"),
        ("first", None, "unreadable"),
    ],
)
def test_a_pair_is_won_where_both_orders_say_so(forward, backward, verdict) -> None:
    assert outcome(forward, backward) == verdict
    assert pair(forward, backward).verdict == verdict


def test_what_the_judge_did_not_take_is_failed_and_the_same_text_is_a_tie_nobody_was_asked_about() -> None:
    refused = JudgedPair("query", "a", "b", 1, 1, Said("first", "text"), Said(None, None, "too long"))
    assert refused.verdict == "failed"
    assert JudgedPair("query", "a", "a", 1, 1, None, None).verdict == "tie"


def test_the_papers_figures_of_neat_against_rrhf() -> None:
    judged = [pair("first", "second")] * 18 + [pair("second", "first")] * 9 + [pair("tie", "tie")] * 3
    result = figures([*judged, pair(None, None), pair("first", None)])
    assert result.verdicts.to_dict() == {"win": 18, "lose": 9, "tie": 3, "unreadable": 2, "failed": 0}
    assert result.win_rate.value == pytest.approx(19.5 / 30)
    assert result.sign_test == pytest.approx(2 * sum(math.comb(27, k) for k in range(18, 28)) / 2**27)
    assert result.length_controlled is None


def test_how_often_the_longer_one_wins_leaves_out_ties_and_equal_lengths() -> None:
    judged = [pair("first", "second", 20, 10), pair("second", "first", 20, 10), pair("second", "first", 10, 30)]
    judged += [pair("first", "second", 10, 10), pair("tie", "tie", 90, 10)]
    lengths = figures(judged).length
    assert lengths.longer_wins.value == pytest.approx(2 / 3)
    assert (lengths.a, lengths.b) == (30, 14)


def test_two_hundred_pairs_have_a_rate_at_equal_length() -> None:
    judged = [pair("first", "second", 20, 10), pair("second", "first", 10, 20)] * 100
    assert figures(judged).length_controlled.value == pytest.approx(0.5, abs=1e-6)
    assert figures(judged[:199]).length_controlled is None


def test_at_equal_length_a_tie_is_half_a_win_and_a_love_of_length_is_taken_out() -> None:
    kinds = (("first", "second"), ("tie", "tie"), ("second", "first"))
    indifferent = [pair(*kinds[number % 3], a=10 + number // 3 % 7) for number in range(300)]
    assert figures(indifferent).length_controlled.value == pytest.approx(0.5, abs=0.01)
    by_length = [
        pair(*kinds[0 if number % 10 < 7 else 2], a=10 + (5 if number % 10 < 7 else -5)) for number in range(300)
    ]
    result = figures(by_length)
    assert result.win_rate.value == pytest.approx(0.7)
    assert result.length_controlled.low < 0.5 < result.length_controlled.high


def test_position_bias_by_hand() -> None:
    judged = [pair("first", "first")] * 3 + [pair("first", "second")] * 4 + [pair("second", "second")]
    bias = position_bias([*judged, pair("first", "tie"), pair("tie", "tie"), pair(None, "first")])
    assert (bias.both_first, bias.both_second, bias.pairs) == (3, 1, 10)
    # 3 * 1 + 4 * 1/2 + 0 + 3/4 + 1/2 of 10; the same in both orders: 4 wins and a tie.
    assert bias.first_preferred.value == pytest.approx(6.25 / 10)
    assert bias.consistent.value == pytest.approx(5 / 10)


def test_a_judge_that_always_prefers_the_first_place_leaves_some_doubt() -> None:
    rate = position_bias([pair("first", "first")] * 10).first_preferred
    assert rate.value == rate.high == 1
    assert rate.low == pytest.approx(10 / (10 + 1.96**2), abs=1e-4)  # where Wilson's interval begins
    halves = position_bias([pair("first", "tie"), pair("second", "tie")] * 5).first_preferred
    assert halves.value == pytest.approx(0.5)


def test_what_is_unreadable_as_it_was_cut_is_counted() -> None:
    cut = JudgedPair("query", "a", "b", 1, 1, Said(None, "text", unfinished="max_tokens"), Said("first", "text"))
    filtered = JudgedPair(
        "query", "a", "b", 1, 1, Said(None, "text", unfinished="content_filter"), Said("first", "text")
    )
    judged = [cut, filtered, pair(None, "first"), pair("first", "second")]
    assert (figures(judged).cut, agreement(judged).cut) == (1, 1)
    assert figures(judged).verdicts.unreadable == 3


def test_agreement_with_and_without_ties() -> None:
    judged = [pair("first", "second")] * 6 + [pair("second", "first")] * 2 + [pair("first", "first")] * 2
    calibration = agreement(judged)
    assert calibration.agreement.value == pytest.approx(0.7)
    assert calibration.decided.value == pytest.approx(0.75)


def test_nothing_judged_has_no_rates() -> None:
    result = figures([pair(None, None)])
    assert result.win_rate is None
    assert result.length.to_dict() == {"longer_wins": None}
    assert position_bias([]).first_preferred is None
    assert agreement([]).agreement is None


def test_tokens_are_added_up_and_what_came_without_is_counted() -> None:
    uncounted = JudgedPair("query", "a", "b", 1, 1, Said("first", "text"), Said(None, None, "too long"))
    assert tokens([pair("first", "second"), uncounted]).to_dict() == {"prompt": 200, "completion": 10, "unreported": 1}


def test_a_line_can_be_read_again() -> None:
    for line in (pair("first", None), JudgedPair("query", "a", "a", 1, 1, None, None)):
        assert JudgedPair.from_dict(line.to_dict()) == line


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("Answer 1 is kinder.\nVerdict: win", "first"),
        ("  **Verdict: LOSE.**  \n\n", "second"),
        ("verdict: tie", "tie"),
        ("Verdict: win\nVerdict: win", "first"),
        ("Verdict: win\n\nBut wait.\nVerdict: lose", None),
        ("Verdict: win\nThat is my opinion.", None),
        ("Verdict: win for answer 1", None),
        ("The verdict: win", None),
        ("Verdict:win", None),
        ("win", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_strictly(answer: str, read: str | None) -> None:
    assert load_judge_prompt().read(answer) == read


def test_the_question_holds_both_answers_as_they_are() -> None:
    question = load_judge_prompt().question((Message("user", "{second}?"),), "{query} one", "two {first}")
    assert [turn["role"] for turn in question] == ["system", "user"]
    assert "User: {second}?\n=== answer 1 ===\n{query} one\n=== answer 2 ===\ntwo {first}\n" in question[1]["content"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"template": "{query} {first} Verdict: win Verdict: lose Verdict: tie"}, "second"),
        ({"says_tie": "Verdict: win."}, "three different"),
        ({"says_tie": "[[C]]"}, "says_tie"),
        ({"says_first": None}, "says_first"),
        ({"says_tie": "Verdict:\ntie"}, "one line"),
        ({"says_tie": "Verdict:\u2028tie"}, "one line"),
        ({"scale": "10"}, "scale"),
    ],
)
def test_a_prompt_that_cannot_work_is_refused(tmp_path: Path, change: dict, named: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(DEFAULT.read_text()), **change}))
    with pytest.raises(InputError, match=named):
        load_judge_prompt(file)


def test_the_way_a_prompt_file_is_laid_out_and_what_it_is_called_change_nothing(tmp_path: Path) -> None:
    """YAML's block style ends each text in a line break."""
    shipped = yaml.safe_load(DEFAULT.read_text())
    ended = {key: text + "\n" for key, text in shipped.items() if key.startswith("says_")}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**shipped, **ended, "name": "mine"}, default_style="|"))
    mine = load_judge_prompt(tmp_path / "mine.yaml")
    assert mine.read("Verdict: win") == "first"
    assert mine.sha256 == load_judge_prompt().sha256


def test_a_prompt_of_ones_own_is_read_in_its_own_words(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    marks = {"says_first": "[[A]]", "says_second": "[[B]]", "says_tie": "[[C]]"}
    template = "{query} {first} {second}: say [[A]], [[B]] or [[C]]"
    file.write_text(yaml.safe_dump({"name": "mine", "template": template, **marks}))
    prompt = load_judge_prompt(file)
    assert [prompt.read(said) for said in ("[[A]]", "I say:\n[[B]]", "[[C]]", "Verdict: win")] == [
        "first",
        "second",
        "tie",
        None,
    ]
