"""HH text and turns: nothing is lost, whatever the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.dialogue import hh_text, messages, parse, read, render
from neat_data.record import Message

PIECES = [
    "\n\nHuman:",
    "\n\nAssistant:",
    "\n\nHumans:",
    "\nHuman:",
    " Human: ",
    "\n\n",
    "\n",
    "\r\n",
    " ",
    "x",
    "\u200b",
    "é",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join)


@given(TEXTS)
def test_rendering_what_was_parsed_gives_the_text_byte_for_byte(text: str) -> None:
    assert render(parse(text)) == text


@given(TEXTS)
def test_messages_read_at_once_are_those_of_the_turns(text: str) -> None:
    assert read(text) == messages(parse(text))


@pytest.mark.parametrize("text", ["", " ", "no tags at all", "\n\nHumans: misspelt"])
def test_text_without_a_tag_is_one_system_turn(text: str) -> None:
    assert render(parse(text)) == text


@given(TEXTS)
def test_a_turn_begins_at_every_tag_and_nowhere_else(text: str) -> None:
    turns = parse(text)
    assert sum(turn.role == "user" for turn in turns) == text.count("\n\nHuman:")
    assert sum(turn.role == "assistant" for turn in turns) == text.count("\n\nAssistant:")
    assert [turn.role for turn in turns[1:]].count("system") == 0


def test_text_before_the_first_tag_is_a_system_turn_and_a_blank_one_is_none() -> None:
    assert messages(parse("Be brief.\n\nHuman: Hi")) == (Message("system", "Be brief."), Message("user", "Hi"))
    assert messages(parse("  \n\nHuman: Hi")) == (Message("user", "Hi"),)


def test_words_that_look_like_tags_stay_in_their_turn() -> None:
    turns = messages(parse("\n\nHuman: he said\nHuman: no\n\nHumans: are odd\n\nAssistant:  Human: yes"))
    assert turns == (Message("user", "he said\nHuman: no\n\nHumans: are odd"), Message("assistant", "Human: yes"))


WORDS = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])).map(str.strip)
TURNS = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), WORDS), max_size=6)


@given(TURNS)
def test_messages_survive_being_written_as_hh_text(turns: list[tuple[str, str]]) -> None:
    given_messages = tuple(Message(role, text) for role, text in turns)
    assert messages(parse(hh_text(given_messages))) == given_messages
