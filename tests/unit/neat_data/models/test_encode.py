"""Lengths: whole oldest turns go, the same ones for every response, and a response is never cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from neat_data.models.encode import encode
from neat_data.models.reward_model import Task
from neat_data.models.templates import ChatTemplate
from neat_data.record import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# '~' stands in no text that the tokenizer was trained on, so n of them are n tokens.
U1, A1, U2, A2, U3 = (Message(role, "~" * 10) for role in ("user", "assistant", "user", "assistant", "user"))
SYSTEM = Message("system", "~" * 3)


@pytest.fixture(scope="module")
def template(tokenizer: PreTrainedTokenizerFast) -> ChatTemplate:
    return ChatTemplate(tokenizer)


def test_a_query_that_fits_is_left_whole(template: ChatTemplate) -> None:
    # BOS + three turns of 12 + the answer's header = 38
    task = Task((U1, A1, U2), ("~~", "~~~~"))
    encoded = encode(task, template, max_length=43, max_response=5)
    assert encoded.turns_cut == 0
    assert [len(ids) for ids in encoded.sequences if ids] == [38 + 3, 38 + 5]
    assert encode(task, template, max_length=42, max_response=5).turns_cut == 2


def test_oldest_turns_go_until_a_user_turn_comes_first(template: ChatTemplate) -> None:
    encoded = encode(Task((U1, A1, U2, A2, U3), ("~", "~~~")), template, max_length=44, max_response=5)
    assert encoded.turns_cut == 2
    expected = [template.ids((U2, A2, U3, Message("assistant", text))) for text in ("~", "~~~")]
    assert list(encoded.sequences) == expected


def test_a_leading_system_turn_stays(template: ChatTemplate) -> None:
    encoded = encode(Task((SYSTEM, U1, A1, U2), ("~",)), template, max_length=30, max_response=5)
    assert encoded.turns_cut == 2
    assert encoded.sequences[0] == template.ids((SYSTEM, U2, Message("assistant", "~")))


def test_an_opening_of_the_assistant_goes_first(template: ChatTemplate) -> None:
    encoded = encode(Task((A1, U1), ("~",)), template, max_length=20, max_response=5)
    assert encoded.turns_cut == 1
    assert encoded.sequences[0] == template.ids((U1, Message("assistant", "~")))


def test_a_last_turn_that_is_too_long_is_refused_for_all_responses(template: ChatTemplate) -> None:
    encoded = encode(Task((U1, A1, U2), ("~", "~~")), template, max_length=15, max_response=5)
    assert encoded.sequences == (None, None)
    assert encoded.refused == ("query_too_long", "query_too_long")


def test_a_response_above_its_limit_is_refused_and_the_others_stand(template: ChatTemplate) -> None:
    encoded = encode(Task((U1,), ("~" * 4, "~" * 5)), template, max_length=40, max_response=5)
    assert encoded.refused == (None, "response_too_long")
    assert encoded.sequences[0] is not None
    assert encoded.sequences[1] is None


@pytest.mark.parametrize("size", range(1, 12))
def test_no_sequence_exceeds_the_length(template: ChatTemplate, size: int) -> None:
    task = Task((U1, A1, U2), tuple("~" * n for n in range(size)))
    for max_length in range(size + 10, 60, 7):
        for ids in encode(task, template, max_length, size).sequences:
            assert ids is None or len(ids) <= max_length


def test_a_dialogue_that_the_template_refuses_is_refused_with_that_reason(
    tokenizer: PreTrainedTokenizerFast, tmp_path
) -> None:
    path = tmp_path / "no_system.jinja"
    path.write_text(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m['content'] }}<|end|>{% endfor %}"
    )
    encoded = encode(Task((SYSTEM, U1), ("~", "~~")), ChatTemplate(tokenizer, str(path)), 40, 5)
    assert encoded.refused == ("template_refused", "template_refused")
    assert encoded.details == ("no system", "no system")
