"""Figures of answers under prompts, worked out by hand."""

import pytest

from neat_data.record import Message, Response
from pipelines.smollm2.answered import Answer, Asked, figures_of, gaps, samples, tables
from pipelines.smollm2.rules import Rules

PROMPTS = ("plain", "negative")


def answer(reward: float, text: str = "some words", refusal: bool = False) -> Answer:
    response = Response(f"{reward}{text}", text, reward, "sampled", finished=True)
    return Answer(response, reward / 2, Rules(False, refusal, False, False, False, len(text.split())))


def asked(number: int, kind: str, **answers: Answer) -> Asked:
    return Asked(kind, f"{number:032x}", (Message("user", f"Question {number}?"),), (1.0, -1.0), answers)


FOUR = [
    asked(1, "harmless", plain=answer(1.0), negative=answer(-3.0, refusal=True)),
    asked(2, "harmless", plain=answer(0.0), negative=answer(0.0, "others")),
    asked(3, "helpful", plain=answer(2.0), negative=answer(-2.0, refusal=True)),
    asked(4, "helpful", plain=answer(9.0)),
]


def test_a_prompt_is_compared_with_the_bare_query_where_both_were_answered() -> None:
    both = figures_of(FOUR, PROMPTS)["both"]["prompts"]
    assert (both["plain"]["answers"], both["negative"]["answers"]) == (4, 3)
    reward = both["negative"]["measures"]["reward"]
    assert reward["difference"]["value"] == pytest.approx((-4 + 0 - 4) / 3)
    assert reward["mean"]["value"] == pytest.approx(-5 / 3)
    assert both["negative"]["measures"]["refusals"]["difference"]["value"] == pytest.approx(2 / 3)
    assert both["negative"]["below_plain"]["value"] == pytest.approx(2.5 / 3), "a tie is half"
    assert both["plain"]["below_plain"] is None


def test_the_negative_prompt_is_compared_with_the_positive_one_too() -> None:
    pairs = [asked(n, "harmless", positive=answer(1.0), negative=answer(n - 3.0)) for n in (1, 2)]
    between = figures_of([*pairs, *FOUR], ("positive", *PROMPTS))["both"]["negative_against_positive"]
    assert between["reward"]["difference"]["value"] == pytest.approx((-3 - 2) / 2)
    assert not figures_of(FOUR, PROMPTS)["both"]["negative_against_positive"], "nothing was asked positively"


def test_gaps_widen_by_what_joins_the_pair() -> None:
    made = gaps(FOUR, PROMPTS)
    assert made["people's pair"]["mean"] == 2.0
    assert made["with plain"]["mean"] == pytest.approx((2 + 2 + 3 + 10) / 4)
    assert made["with negative"]["mean"] == pytest.approx((4 + 2 + 3) / 3)
    assert (made["with plain"]["above 5"], made["with negative"]["above 5"]) == (0.25, 0.0)
    assert made["with negative"]["above 2 sd"] == pytest.approx(2 / 3), "the deviation of 1 and -1 is 1"


def test_every_scope_has_its_tables() -> None:
    titles = [table.title for table in tables(figures_of(FOUR, PROMPTS))]
    assert len(titles) == 9
    assert "Against the bare query, helpful" in titles


def test_samples_are_the_queries_with_the_first_ids_whatever_was_answered() -> None:
    lines = list(samples(FOUR, PROMPTS))
    assert lines[0] == "### harmless: Question 1?"
    assert "- *negative*: nothing" in lines
