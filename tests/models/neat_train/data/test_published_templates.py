"""Published chat templates: what is learned of an answer is what the template renders, or the template is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from neat_data.errors import InputError
from neat_data.models.stopping import end_of_turn, tokenizer_id
from neat_data.models.templates import ChatTemplate, TemplateRefused
from neat_data.record import Message, Messages, Record, Response, query_id, response_id
from neat_train.data.examples import Encoder
from tests.support.templates import PUBLISHED, tokenizer_of

# Their header opens a thought that their finished dialogues lack, or write with fewer line breaks.
OPENING = {name for name in PUBLISHED if name.startswith(("deepseek", "nemotron"))} | {
    "axolotl/qwen3",
    "axolotl/qwen3_5",
}
# They ask for an answer with a thought that they then leave out of it.
REFUSED = {"axolotl/gemma4"}
# The thought of an answer is written nowhere: the header has closed it.
NO_THOUGHTS = {"qwen3_5_nothink", "qwen3_5_nothink_training"}
# Their header ends in a space or a letter, which some answer's first token takes in: what is learned is what the model
# writes behind the header's own tokens.
SPANNING = {"llamafactory/breeze", "llamafactory/empty", "llamafactory/ernie_nothink"}
# Of axolotl's and LLaMA-Factory's, those that do something of their own; the rest is left to `make slow`.
ODD = {
    *("axolotl/deepseek_v3", "axolotl/exaone", "axolotl/llava", "axolotl/mistral_v1", "axolotl/phi_4", "axolotl/qwen3"),
    *("llamafactory/breeze", "llamafactory/deepseekcoder", "llamafactory/minimax2", "llamafactory/yi_vl"),
}


def each(names: set[str]) -> list[Any]:
    quick = {name for name in names if "/" not in name or name in ODD}
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in sorted(names)]


LEARNED = each(PUBLISHED.keys() - OPENING - REFUSED)
USER, MORE = Message("user", "Why, "), (Message("assistant", "Well."), Message("user", "And then?\n"))
DIALOGUES: dict[str, Messages] = {
    "one": (USER,),
    "three": (USER, *MORE),
    "system": (Message("system", "Be é😀."), USER),
    "system, three": (Message("system", "Be kind. /no_think"), USER, *MORE),
}
TEXTS = ("Fine, thanks.", "a\n\nb", "é😀 <b>", "7")
THOUGHT = "<think>\nLet me see.\n</think>\n\nFine."


@cache
def encoder_of(name: str) -> tuple[Encoder, ChatTemplate]:
    tokenizer = tokenizer_of(name)
    template = ChatTemplate(tokenizer)
    stops = end_of_turn(template, tokenizer)
    return Encoder(template, stops, tokenizer, tokenizer_id(template, stops), 4000, 400), template


def learned(encoder: Encoder, messages: Messages, *texts: str) -> list[list[int]] | None:
    """The ids of the query and of each answer behind it."""
    responses = tuple(Response(response_id("", text), text, reward=-float(n)) for n, text in enumerate(texts))
    made = encoder.example(Record(query_id(messages), messages, responses))
    return made and [[*made.query, *answer.ids] for answer in made.answers]


def rendered(template: ChatTemplate, messages: Messages, text: str) -> list[int]:
    return template.ids((*messages, Message("assistant", text)))


def end_of(template: ChatTemplate) -> str:
    return template.text((USER, Message("assistant", "Fine."))).rpartition("Fine.")[2]


@pytest.mark.parametrize("name", LEARNED)
def test_what_is_learned_is_what_the_template_renders(name: str) -> None:
    encoder, template = encoder_of(name)
    loses_system = any("system turn out of finished" in note for note in template.scoring_notes)
    for key, messages in DIALOGUES.items():
        try:
            expected = [rendered(template, messages, text) for text in TEXTS]
        except TemplateRefused:
            continue
        if loses_system and key.startswith("system"):
            continue  # which is told
        ids_learned = learned(encoder, messages, *TEXTS)
        assert ids_learned is not None
        for ids, whole in zip(ids_learned, expected, strict=True):
            decode = template.tokenizer.decode
            if not end_of(template).strip():  # the end of turn stands where the template writes white space
                assert decode(ids[:-1]) == decode(whole).rstrip()
                continue
            query = template.query_ids(messages)
            if whole[: len(query)] != query:
                assert name in SPANNING
                assert decode(ids).startswith(decode(whole))
                continue
            shared = min(len(ids), len(whole))
            assert ids[:shared] == whole[:shared], (key, decode(ids), decode(whole))
            assert len(ids) <= len(whole) + 1, "an end of turn more, where the template writes none behind the last"


@pytest.mark.parametrize("name", LEARNED)
def test_a_thought_is_learned_once(name: str) -> None:
    encoder, template = encoder_of(name)
    ids_learned = learned(encoder, (USER,), THOUGHT)
    if name in NO_THOUGHTS:
        assert ids_learned is None
        assert encoder.counts["thought_refused"] == 1
        return
    assert ids_learned is not None
    text = template.tokenizer.decode(ids_learned[0])
    answer = text.removeprefix(template.tokenizer.decode(template.query_ids((USER,))))
    kept = not any("thought" in note for note in template.thought_notes)
    assert answer.count("<|channel|>analysis<|message|>" if template.channels else "</think>") == kept
    assert not kept or "</think>" not in template.thought_header
    if kept and end_of(template).strip():
        whole = rendered(template, (USER,), THOUGHT)
        assert ids_learned[0][: len(whole)] == whole[: len(ids_learned[0])]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_template_whose_answers_begin_otherwise_than_it_asks_for_them_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="asks for an answer in another way than it writes one"):
        encoder_of(name)


@pytest.mark.parametrize("name", each(OPENING))
def test_an_answer_behind_an_opened_thought_closes_it_once(name: str) -> None:
    encoder, template = encoder_of(name)
    plain, thought = learned(encoder, (USER,), "Fine.", THOUGHT) or ([], [])
    asked = template.text((USER,), ask=True)
    assert asked.rstrip("\n").endswith("<think>")
    plain_text, thought_text = (template.tokenizer.decode(ids) for ids in (plain, thought))
    end = template.tokenizer.decode(plain[-1:])
    assert plain_text in {f"{asked}</think>{gap}Fine.{end}" for gap in ("", "\n", "\n\n")}
    assert thought_text.replace("</think>\n\n", "</think>\n") == f"{asked}Let me see.\n</think>\nFine.{end}"


LOSING = "{% for m in messages %}<{{ m.role }}>{% if m.content is not string %}SHOWN{% endif %}{% endfor %}"


@pytest.mark.parametrize("shown", ["", "{{ m.content }}", "{{ m.content | tojson }}", "{{ m.content[0].kind }}"])
def test_a_template_that_loses_what_is_said_is_refused_whichever_way_it_is_given(tmp_path: Path, shown: str) -> None:
    path = tmp_path / "losing.jinja"
    path.write_text(LOSING.replace("SHOWN", shown))
    with pytest.raises(InputError, match="leaves out the words of the user and the assistant"):
        ChatTemplate(tokenizer_of("qwen3"), str(path))


def test_a_template_that_takes_thoughts_in_a_field_of_their_own_is_given_them_so() -> None:
    text = ChatTemplate(tokenizer_of("qwen3_8")).text((USER, Message("assistant", THOUGHT)))
    assert text.endswith("<|im_start|>assistant\n<think>\nLet me see.\n</think>\n\nFine.<|im_end|>\n")
    unended = ChatTemplate(tokenizer_of("qwen3_8")).text((USER, Message("assistant", "<think>\nLet me")))
    assert "Let me<|im_end|>" in unended


def test_what_a_template_leaves_out_is_told() -> None:
    silent = {name: ChatTemplate(tokenizer_of(name)) for name in ("mistral_v3", "deepseek_r1_distill", "qwen3")}
    notes = {name: " ".join(template.notes_of("whole")) for name, template in silent.items()}
    assert "leaves the system turn out of finished dialogues" in notes["mistral_v3"]
    assert (
        "thought (<think>…</think>) out: responses that differ only there get the same reward"
        in notes["deepseek_r1_distill"]
    )
    assert notes["qwen3"] == ""
    assert silent["deepseek_r1_distill"].notes_of("answer") == []  # a thought is not scored then
    assert silent["mistral_v3"].asking_notes == []


def test_generation_stops_where_the_last_turn_ends() -> None:
    tokenizer = tokenizer_of("gptoss")
    stops = end_of_turn(ChatTemplate(tokenizer), tokenizer)
    returns, part = tokenizer.convert_tokens_to_ids(["<|return|>", "<|end|>"])
    assert stops.ids[0] == returns
    tokenizer.eos_token = "<|return|>"
    stops = end_of_turn(ChatTemplate(tokenizer), tokenizer)
    assert stops.ids == (returns,)
    assert stops.note == "<|end|> ends a part of an answer and does not stop it"
    assert part not in stops.ids


def test_white_space_behind_a_turn_is_no_header() -> None:
    tokenizer = tokenizer_of("phi3_first")
    tokenizer.eos_token = "<|end|>"
    template = ChatTemplate(tokenizer)
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    messages = tuple(Message(**turn) for turn in chat)
    assert template.unasked_header == ""
    assert template.ids(messages) == tokenizer.apply_chat_template(chat)["input_ids"]
