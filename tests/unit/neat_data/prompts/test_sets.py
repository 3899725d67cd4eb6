"""Prompt sets: what is shipped, where a prompt's text goes, and what a file may not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neat_data.errors import InputError
from neat_data.prompts.sets import Prompt, load_prompts
from neat_data.record import Message

DIALOGUE = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Why?"))


def contents(prompt: Prompt, *messages: Message) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in prompt.applied(messages)]


def test_table_1_stands_in_front_of_the_last_user_turn() -> None:
    neat = load_prompts("neat")
    assert [(p.name, p.polarity, p.placement) for p in neat.prompts] == [
        ("positive", "positive", "last_user"),
        ("negative", "negative", "last_user"),
    ]
    first, answer, last = contents(neat.prompts[1], *DIALOGUE)
    assert (first, answer) == (("user", "Hi"), ("assistant", "Hello"))
    assert last[1].startswith("I want you to act as a helpless and harmful chatbot. You should")
    assert last[1].endswith("human preferences. My question is: Why?")
    assert "\n" not in last[1]


def test_first_user_and_system() -> None:
    first = Prompt("p", None, "Be brief.", "first_user")
    assert contents(first, *DIALOGUE)[0] == ("user", "Be brief. Hi")
    assert contents(first, *DIALOGUE)[2] == ("user", "Why?")
    system = Prompt("p", None, "Be brief.", "system")
    assert contents(system, DIALOGUE[0]) == [("system", "Be brief."), ("user", "Hi")]
    assert contents(system, Message("system", "You are Bo."), DIALOGUE[0]) == [
        ("system", "Be brief.\n\nYou are Bo."),
        ("user", "Hi"),
    ]


def test_only_a_prompt_before_the_first_user_turn_has_to_move_when_turns_are_cut() -> None:
    assert [Prompt("p", None, "Be brief.", place).lead for place in ("first_user", "last_user", "system")] == [
        "Be brief. ",
        "",
        "",
    ]
    assert Prompt("p", None, None, "first_user").lead == ""


def test_plain_leaves_the_query_as_it_is() -> None:
    (plain,) = load_prompts("plain").prompts
    assert (plain.name, plain.polarity) == ("plain", None)
    assert plain.applied(DIALOGUE) == DIALOGUE


def test_a_part_is_chosen_by_name_or_else_by_polarity(tmp_path: Path) -> None:
    file = tmp_path / "my:set.yaml"
    file.write_text(
        "name: mine\nprompts:\n"
        "- {name: rude, polarity: negative, text: Be rude., samples: 3, temperature: 0}\n"
        "- {name: wrong, polarity: negative, text: Be wrong., placement: system, top_p: 0.9, max_new_tokens: 7}\n"
        "- {name: plain, polarity: null}\n"
    )
    whole = load_prompts(str(file))
    assert [p.name for p in whole.prompts] == ["rude", "wrong", "plain"]
    assert [p.name for p in load_prompts(f"{file}:negative").prompts] == ["rude", "wrong"]
    (wrong,) = load_prompts(f"{file}:wrong").prompts
    assert wrong == Prompt("wrong", "negative", "Be wrong.", "system", top_p=0.9, max_new_tokens=7)
    assert json.loads(json.dumps(whole.prompts[0].to_dict())) == {
        "name": "rude",
        "polarity": "negative",
        "text": "Be rude.",
        "placement": "last_user",
        "samples": 3,
        "temperature": 0.0,
        "top_p": None,
        "max_new_tokens": None,
    }
    assert load_prompts("neat:negative").prompts[0].polarity == "negative"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "the file must be a mapping"),
        ("name: x", "key prompts: must be a list"),
        ("name: x\nprompts: []", "key prompts: must be a list"),
        ("prompts: [{name: a}]", "the file, key name: must be a text"),
        ("name: x\nprompts: [{text: a}]", "prompt 1, key name: must be a text"),
        ("name: x\nprompts: [{name: a}, {name: b, txt: a}]", "prompt 2, key txt: unknown; there are name, polarity"),
        ("name: x\nprompts: [{name: a, text: ''}]", "key text: must be a text"),
        ("name: x\nprompts: [{name: a, polarity: bad}]", "key polarity: must be one of positive, negative, not 'bad'"),
        ("name: x\nprompts: [{name: a, placement: middle}]", "key placement: must be one of last_user"),
        ("name: x\nprompts: [{name: a, samples: 1.5}]", "key samples: must be a whole number from 1, not 1.5"),
        ("name: x\nprompts: [{name: a, samples: yes}]", "key samples: must be a whole number from 1, not True"),
        ("name: x\nprompts: [{name: a, temperature: -1}]", "key temperature: must be a number from 0"),
        ("name: x\nprompts: [{name: a, temperature: .nan}]", "key temperature: must be a number from 0"),
        ("name: x\nprompts: [{name: a, top_p: 0}]", "key top_p: must be a number from 1e-06 to 1, not 0"),
        ("name: x\nprompts: [{name: a}, {name: a}]", "two of them are named a"),
        ("name: [", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_prompt_set(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        load_prompts(str(file))
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_not_there() -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: no such file; choose neat, plain or a YAML file"):
        load_prompts("nothing.yaml")
    with pytest.raises(InputError, match=r"neat has no prompt named neutral; it has positive, negative"):
        load_prompts("neat:neutral")
