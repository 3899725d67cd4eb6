"""Records to token ids: against the rendered dialogue, against what a sampler left, and at the limits of the length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from neat_data.errors import InputError
from neat_data.models.encode import encode_query
from neat_data.models.sampler import Ask, Sampling
from neat_data.models.stopping import Stops, end_of_turn, tokenizer_id
from neat_data.models.templates import ChatTemplate
from neat_data.prompts.sets import Prompt
from neat_data.record import Message, Record, Response, query_id, response_id
from neat_train.data.examples import Encoder

TINY = Path(__file__).resolve().parents[4] / "data" / "models" / "tiny-policy"
TOKENIZER = AutoTokenizer.from_pretrained(TINY)
TEMPLATES = {name: ChatTemplate(TOKENIZER, name) for name in ("auto", "hh")}
RUDE = Prompt("rude", "negative", "Be rude.", placement="first_user")


def encoder(template: str = "auto", max_length: int = 200, max_response: int = 40, **options) -> Encoder:
    chat = TEMPLATES[template]
    stops = end_of_turn(chat, TOKENIZER)
    return Encoder(chat, stops, TOKENIZER, tokenizer_id(chat, stops), max_length, max_response, **options)


def record(turns: str | list[str], *responses: Response) -> Record:
    turns = [turns] if isinstance(turns, str) else turns
    messages = tuple(Message(("user", "assistant")[i % 2], turn) for i, turn in enumerate(turns))
    return Record(query_id(messages), messages, responses)


def answer(text: str, reward: float = 0.0, **fields) -> Response:
    return Response(response_id("", text), text, reward=reward, **fields)


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("template", "written"), [("auto", "Fine, thanks."), ("hh", " Fine, thanks.")])
def test_a_response_is_what_the_template_writes_behind_the_header_with_its_end_of_turn(template, written) -> None:
    made = encoder(template).example(record(["Hi", "Hello", "How are you?"], answer("Fine, thanks.")))
    assert made is not None
    assert made.answers[0].ids == (*ids_of(written), TOKENIZER.eos_token_id)
    assert list(made.query) == TEMPLATES[template].query_ids(record(["Hi", "Hello", "How are you?"]).messages)


def test_what_stands_before_the_mark_that_ends_a_turn_is_learned_with_it(tmp_path: Path) -> None:
    path = tmp_path / "llama2.jinja"
    path.write_text(
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}"
        "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}"
    )
    chat = ChatTemplate(TOKENIZER, str(path))
    stops = end_of_turn(chat, TOKENIZER)
    encode = Encoder(chat, stops, TOKENIZER, tokenizer_id(chat, stops), 200, 40)
    made = encode.example(record("Hi", answer("Fine.", 1.0), answer("Fi", finished=False)))
    assert made is not None
    assert TOKENIZER.decode(made.answers[0].ids) == f" Fine. {TOKENIZER.eos_token}"
    assert TOKENIZER.decode(made.answers[1].ids) == " Fi", "a cut answer has not come to what ends it"


@pytest.mark.parametrize("template", ["auto", "hh"])
@given(
    query=st.text("ab .\n\t é😀", max_size=12),
    text=st.text("ab .\n\t é😀", min_size=1, max_size=12).filter(lambda text: text == text.strip()),
)
def test_an_answer_never_changes_the_tokens_of_its_query(template: str, query: str, text: str) -> None:
    asked = record(query)
    made = encoder(template).example(replace(asked, responses=(answer(text), answer("b" + text))))
    assert made is not None
    assert list(made.query) == TEMPLATES[template].query_ids(asked.messages)
    texts = {TOKENIZER.decode(trained.ids[:-1]).strip() for trained in made.answers}
    assert texts == {text, "b" + text}
    rendered = TEMPLATES[template].ids((*asked.messages, Message("assistant", text)))
    behind = [*made.query, *made.answers[0].ids]
    assert behind[: len(rendered)] == rendered[: len(behind)]


def test_answers_are_best_first_and_unscored_ones_are_left_out() -> None:
    encode = encoder()
    made = encode.example(record("Hi", answer("a", 1.0), answer("b", 3.0), replace(answer("c"), reward=None)))
    assert made is not None
    assert [trained.reward for trained in made.answers] == [3.0, 1.0]
    assert encode.counts["unscored"] == 1
    assert encode.example(record("Hi", replace(answer("c"), reward=None))) is None
    assert encode.counts["no_responses"] == 1


def test_a_long_response_is_cut_without_an_end_of_turn_and_counted() -> None:
    text = "one two three four five six"
    whole = ids_of(text)
    fits, cut = encoder(max_response=len(whole) + 1), encoder(max_response=len(whole))
    assert fits.example(record("Hi", answer(text))).answers[0].ids == (*whole, TOKENIZER.eos_token_id)
    assert fits.counts["responses_cut"] == 0
    assert cut.example(record("Hi", answer(text))).answers[0].ids == tuple(whole)
    assert cut.counts["responses_cut"] == 1


def test_what_came_unfinished_stays_so_and_nothing_at_all_is_dropped() -> None:
    encode = encoder()
    made = encode.example(
        record("Hi", answer("cut off", finished=False), answer("", finished=False), answer("short", truncated=True))
    )
    assert made is not None
    assert [trained.ids for trained in made.answers] == [tuple(ids_of("cut off")), tuple(ids_of("short"))]
    assert (encode.counts["unfinished"], encode.counts["empty"]) == (3, 1)


def test_the_query_loses_whole_oldest_turns_the_same_for_all_of_its_responses() -> None:
    turns = ["first " * 30, "reply", "last question"]
    short, encode = record(turns[2:]), encoder(max_length=40, max_response=20)
    made = encode.example(record(turns, answer("a"), answer("b c d e")))
    assert made is not None
    assert made.query == encode.example(replace(short, responses=(answer("a"),))).query
    assert encode.counts["queries_cut"] == 1
    assert encode.example(record("far too long " * 30, answer("a"))) is None
    assert encode.counts["query_too_long"] == 1


def test_sampled_ids_are_kept_where_they_are_the_policys_own() -> None:
    encode = encoder()
    own, end = encode._id, TOKENIZER.eos_token_id
    odd = (*ids_of("he"), *ids_of("llo"))  # not how "hello" is tokenised
    assert list(odd) != ids_of("hello")
    sampled = {"origin": "sampled", "finished": True}
    made = encode.example(
        record(
            "Hi",
            answer("hello", 4, tokens=(*odd, end), tokenizer=own, **sampled),
            answer("hello", 3, tokens=(*odd, end), tokenizer="another", **sampled),
            answer("hello", 2, tokens=(*odd, 9, 9), tokenizer=own, **sampled),  # ended at a stop string
            answer("hello", 1, tokens=odd, tokenizer=own, origin="sampled", finished=False),
        )
    )
    assert made is not None
    plain = (*ids_of("hello"), end)
    assert [trained.ids for trained in made.answers] == [(*odd, end), plain, plain, odd]
    assert (encode.counts["sampled_ids"], encode.counts["retokenised"]) == (2, 2)


def test_another_stop_token_is_learned_as_the_templates_end_of_turn() -> None:
    chat, stops = TEMPLATES["auto"], Stops((5, TOKENIZER.eos_token_id))
    encode = Encoder(chat, stops, TOKENIZER, "own", 100, 20)
    made = encode.example(record("Hi", answer("x", tokens=(7, TOKENIZER.eos_token_id), tokenizer="own", finished=True)))
    assert made is not None
    assert made.answers[0].ids == (7, 5)


def test_the_query_under_its_prompt_is_what_the_sampler_saw() -> None:
    encode = encoder(prompts={"negative": RUDE})
    turns = ["old " * 60, "reply", "and now?"]
    asked = record(turns, answer("bad", polarity="negative"), answer("good"))
    made = encode.example(asked)
    assert made is not None
    ask = Ask(RUDE.applied(asked.messages), 0, Sampling(max_new_tokens=40), RUDE.lead)
    expected = encode_query(ask, TEMPLATES["auto"], 200).ids
    assert {trained.polarity: trained.prompted for trained in made.answers} == {"negative": tuple(expected), None: None}
    assert "Be rude." in TOKENIZER.decode(expected)
    assert encoder().example(asked).answers[0].prompted is None


def test_what_cannot_be_trained_on_is_refused() -> None:
    tokenizer: PreTrainedTokenizerBase = TOKENIZER
    with pytest.raises(InputError, match="no end-of-turn token"):
        Encoder(TEMPLATES["auto"], Stops(()), tokenizer, "", 100, 20)
    with pytest.raises(InputError, match="max_response 100, max_length 100"):
        encoder(max_length=100, max_response=100)
