"""What the rules say of texts that leave no doubt."""

import pytest

from pipelines.smollm2.rules import Rules, rules_of


def test_a_plain_answer_has_nothing_against_it() -> None:
    said = rules_of("Bread needs flour, water, yeast and some patience, and a hot oven at the end.")
    assert said == Rules(empty=False, refusal=False, repetitive=False, profane=False, foreign=False, words=15)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("  \n", "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("you can go to the store, you can go to the store, you can go to the store", "repetitive"),
        ("Leave me alone, you little shit, and never come back.", "profane"),
        ("Das weiß ich leider nicht, mein lieber Freund, frag doch jemand anderen.", "foreign"),
    ],
)
def test_each_rule_sees_what_it_is_there_for(text: str, verdict: str) -> None:
    said = rules_of(text).to_dict()
    assert [name for name in ("empty", "refusal", "repetitive", "profane", "foreign") if said[name]] == [verdict]


def test_of_a_text_of_a_few_characters_no_language_is_told() -> None:
    assert rules_of("Ja, genau.").foreign is None
