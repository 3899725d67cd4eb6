"""Messages to ids: golden ids, one BOS however it comes about, no header behind a finished dialogue."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from neat_data.errors import InputError
from neat_data.models.templates import ChatTemplate, TemplateRefused
from neat_data.record import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DIALOGUE = (Message("user", "Hi"), Message("assistant", "Yes"))
# What LLaMA-3-Instruct's first template did: a BOS before the first turn, a header behind the last, asked for or not.
LLAMA3 = (
    "{% for m in messages %}"
    "{% set c = '<|user|>' + m['role'] + '<|assistant|>\n\n' + m['content'] | trim + '<|end|>' %}"
    "{% if loop.index0 == 0 %}{% set c = bos_token + c %}{% endif %}{{ c }}{% endfor %}"
    "{{ '<|user|>assistant<|assistant|>\n\n' }}"
)
CHATML = (
    "{{ '<|system|>system\nBe kind.<|end|>\n' }}"
    "{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m['content'] }}<|end|>{% endfor %}"
)


def with_template(tokenizer: PreTrainedTokenizerFast, template: str | None, *, add_bos: bool = False):
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    if add_bos:
        changed.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
        )
    return changed


def test_golden_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    h, i, yes = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("H", "i", "Yes"))
    assert ChatTemplate(tokenizer).ids(DIALOGUE) == [0, 3, *h, *i, 5, 4, *yes, 5]
    assert ChatTemplate(tokenizer).ids(DIALOGUE[:1], ask=True) == [0, 3, *h, *i, 5, 4]


def test_ids_are_those_of_transformers(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = [{"role": m.role, "content": m.content} for m in DIALOGUE]
    assert ChatTemplate(tokenizer).ids(DIALOGUE) == tokenizer.apply_chat_template(chat)["input_ids"]


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("template", ["own", "LLAMA3", "CHATML"])
def test_there_is_one_bos_whoever_adds_it(tokenizer: PreTrainedTokenizerFast, template: str, add_bos: bool) -> None:
    text = tokenizer.chat_template if template == "own" else globals()[template]
    ids = ChatTemplate(with_template(tokenizer, text, add_bos=add_bos)).ids(DIALOGUE)
    nobody = template == "CHATML" and not add_bos
    assert ids.count(0) == (0 if nobody else 1)
    assert nobody or ids[0] == 0


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=4))
def test_the_bos_is_first_and_single_on_any_text(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> None:
    messages = tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))
    ids = ChatTemplate(with_template(tokenizer, tokenizer.chat_template, add_bos=True)).ids(messages)
    assert ids[0] == 0
    assert ids.count(0) == 1


def test_a_header_behind_a_finished_dialogue_is_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate(with_template(tokenizer, LLAMA3))
    assert template.unasked_header == "<|user|>assistant<|assistant|>\n\n"
    assert template.text(DIALOGUE).endswith("Yes<|end|>")
    assert template.ids(DIALOGUE)[-1] == tokenizer.eos_token_id
    assert template.text(DIALOGUE[:1], ask=True).endswith("Hi<|end|><|user|>assistant<|assistant|>\n\n")


@pytest.mark.parametrize("template", [CHATML, ALTERNATING, None])
def test_templates_that_end_with_the_turn_keep_their_ending(tokenizer, template: str | None) -> None:
    changed = with_template(tokenizer, template or tokenizer.chat_template)
    assert ChatTemplate(changed).unasked_header == ""
    assert ChatTemplate(changed).text(DIALOGUE).strip().endswith("Yes<|end|>")


def test_hh_is_the_plain_form_with_the_tokenizers_own_bos(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate(with_template(tokenizer, None, add_bos=True), "hh")
    assert template.text(DIALOGUE) == "\n\nHuman: Hi\n\nAssistant: Yes"
    assert template.text(DIALOGUE[:1], ask=True) == "\n\nHuman: Hi\n\nAssistant:"
    assert template.ids(DIALOGUE)[0] == 0


def test_an_encoder_gets_its_marks_around_plain_text(tokenizer: PreTrainedTokenizerFast) -> None:
    changed = with_template(tokenizer, None)
    marks = TemplateProcessing(single="<|system|> $A <|end|>", special_tokens=[("<|system|>", 2), ("<|end|>", 5)])
    changed.backend_tokenizer.post_processor = marks
    ids = ChatTemplate(changed, "hh").ids(DIALOGUE)
    assert (ids[0], ids[-1]) == (2, 5)


def test_without_a_template_the_error_names_the_option(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="chat_template hh"):
        ChatTemplate(with_template(tokenizer, None))


def test_a_template_file_is_read_and_a_bad_one_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jinja", tmp_path / "bad.jinja"
    good.write_text(CHATML)
    bad.write_text("{% for %}")
    assert ChatTemplate(tokenizer, str(good)).text(DIALOGUE).startswith("<|system|>")
    with pytest.raises(InputError, match="fails on a plain question"):
        ChatTemplate(tokenizer, str(bad))
    with pytest.raises(InputError, match="cannot be read"):
        ChatTemplate(tokenizer, str(tmp_path / "none.jinja"))


def test_a_template_that_raises_refuses_the_dialogue(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate(with_template(tokenizer, ALTERNATING))
    with pytest.raises(TemplateRefused, match="alternate"):
        template.ids((Message("user", "a"), Message("user", "b")))


def test_the_date_stands_still(tokenizer: PreTrainedTokenizerFast) -> None:
    dated = "{{ strftime_now('%d %b %Y') }} {{ date_string }}: " + CHATML
    assert ChatTemplate(with_template(tokenizer, dated)).text(DIALOGUE).startswith("26 Jul 2024 26 Jul 2024: ")


def test_fingerprints_follow_the_template_and_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    own = ChatTemplate(tokenizer).fingerprint
    assert own == ChatTemplate(copy.deepcopy(tokenizer)).fingerprint
    other = ChatTemplate(with_template(tokenizer, CHATML)).fingerprint
    assert own["template"] != other["template"]
    assert own["tokenizer"] == other["tokenizer"]
    assert own["tokenizer"] != ChatTemplate(with_template(tokenizer, CHATML, add_bos=True)).fingerprint["tokenizer"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes more than 1 seconds"),
        ("{{ 'x' * 1000000000 }}", "makes more than 1,048,576 characters"),
        ("{% for m in messages %}{{ '%2000000s' % m.content }}{% endfor %}", "makes more than 1,048,576 characters"),
    ],
)
def test_a_template_without_end_is_refused(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, source: str, why: str
) -> None:
    monkeypatch.setattr("neat_data.models.template_bounds.SECONDS", 1)
    with pytest.raises(InputError, match=f"{why}.*\n.*chat_template hh"):
        ChatTemplate(with_template(tokenizer, source))


def test_whatever_a_template_raises_refuses_it(tokenizer: PreTrainedTokenizerFast) -> None:
    for source in ("{{ 1 // 0 }}", "{{ 'a'.index('b') }}", "{{ messages[9].content }}"):
        with pytest.raises(InputError, match="fails on a plain question and answer"):
            ChatTemplate(with_template(tokenizer, source))
