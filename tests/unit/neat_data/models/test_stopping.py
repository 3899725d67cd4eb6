"""What ends a response, read off the template; and what a sample is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neat_data.models.stopping import Stops, end_of_turn, reaches_stop_string, sampled, tokenizer_id
from neat_data.models.templates import ChatTemplate

HH = "\n\nHuman:"


def stops_of(tokenizer: Any, template: str = "auto") -> Stops:
    return end_of_turn(ChatTemplate(tokenizer, template), tokenizer)


def test_the_token_that_the_template_writes_behind_an_answer(tokenizer: Any) -> None:
    assert stops_of(tokenizer) == Stops((tokenizer.convert_tokens_to_ids("<|end|>"),))


def test_where_the_tokenizer_ends_a_text_otherwise_both_stop_and_it_is_said(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer(eos_token="<|pad|>")
    stops = stops_of(tokenizer)
    assert stops.ids == tuple(tokenizer.convert_tokens_to_ids(["<|end|>", "<|pad|>"]))
    assert stops.note is not None
    assert "<|end|>" in stops.note
    assert "<|pad|>" in stops.note


def test_a_template_without_an_end_stops_where_the_next_turn_begins(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "headers.jinja"
    file.write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    stops = stops_of(tokenizer, str(file))
    assert stops.ids == tuple(tokenizer.convert_tokens_to_ids(["<|user|>", "<|end|>"]))
    assert stops.string is None


def test_a_plain_template_stops_at_the_words_of_the_next_turn(tokenizer: Any) -> None:
    stops = stops_of(tokenizer, "hh")
    assert (stops.ids, stops.string) == ((tokenizer.eos_token_id,), HH)
    assert stops.note is not None
    assert repr(HH) in stops.note


def test_finished_looks_at_the_last_token_only(tokenizer: Any) -> None:
    stops, end = stops_of(tokenizer), tokenizer.eos_token_id
    hello = tokenizer("Hello there", add_special_tokens=False)["input_ids"]
    assert not sampled(hello, stops, tokenizer).finished
    assert not sampled([end, *hello], stops, tokenizer).finished
    ended = sampled([*hello, end], stops, tokenizer)
    assert (ended.text, ended.tokens, ended.finished, ended.cut) == ("Hello there", (*hello, end), True, False)
    assert sampled([end], stops, tokenizer).text == ""


def test_text_ends_before_a_stop_string_and_the_ids_stay_as_sampled(tokenizer: Any) -> None:
    stops = stops_of(tokenizer, "hh")
    ids = tokenizer(" Well,  no. \n\nHuman: Why?", add_special_tokens=False)["input_ids"]
    sample = sampled(ids, stops, tokenizer)
    assert (sample.text, sample.tokens, sample.finished, sample.cut) == ("Well,  no.", tuple(ids), True, True)
    assert not sampled(ids[:3], stops, tokenizer).cut


@pytest.mark.parametrize("before", ["", "x" * 300, "é" * 30, "\n\nHuma"])
def test_a_stop_string_is_seen_with_its_last_token(tokenizer: Any, before: str) -> None:
    stops = stops_of(tokenizer, "hh")
    ids = tokenizer(before + HH, add_special_tokens=False)["input_ids"]
    assert [n for n in range(1, len(ids) + 1) if reaches_stop_string(ids[:n], stops, tokenizer)] == [len(ids)]
    assert not reaches_stop_string(ids, stops_of(tokenizer), tokenizer)


def test_the_tokenizer_is_known_by_its_vocabulary_and_its_end_of_turn(make_tokenizer: Callable[..., Any]) -> None:
    def identity(template: str = "auto", **options: str) -> str:
        own = ChatTemplate(make_tokenizer(**options), template)
        return tokenizer_id(own, end_of_turn(own, own.tokenizer))

    assert identity() == identity()
    assert len({identity(), identity(eos_token="<|pad|>"), identity("hh", eos_token="<|user|>")}) == 3
