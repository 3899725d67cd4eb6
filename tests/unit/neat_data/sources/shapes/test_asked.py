"""What changes a query is used or refused: role tags, templates, and columns beside the prompt. Values by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neat_data.errors import InputError
from neat_data.record import Message
from neat_data.sources.row import REASONS, Understood, Unusable
from neat_data.sources.shapes import columns, registry
from neat_data.sources.shapes.nearest import mapping
from neat_data.sources.shapes.registry import SHAPES, recognise

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}


def understood(row: dict[str, Any], **more: Any) -> Understood:
    return recognise([row], "here", SHAPES).understand({**row, **more})


def reason(row: dict[str, Any]) -> str:
    with pytest.raises(Unusable) as raised:
        understood(row)
    return raised.value.reason


def turns(made: Understood) -> list[tuple[str, str]]:
    return [(message.role[0], message.content) for message in made.messages]


# Columns beside the prompt.


@pytest.mark.parametrize("column", ["system", "system_prompt", "system_message"])
def test_rows_that_differ_in_their_system_column_are_two_queries(column: str) -> None:
    assert turns(understood({**PAIR, column: " Be brief. "})) == [("s", "Be brief."), ("u", "q")]
    assert turns(understood({**PAIR, column: ""})) == [("u", "q")]
    assert understood({**PAIR, column: "Be brief."}).meta == {}


def test_a_system_column_that_the_dialogue_repeats_counts_once_and_another_is_refused() -> None:
    row = {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
        "chosen": "a",
        "rejected": "b",
    }
    assert turns(understood({**row, "system": "s"})) == [("s", "s"), ("u", "q")]
    assert reason({**row, "system": "t"}) == "queries_differ"


def test_history_stands_before_the_prompt_behind_the_system_turn() -> None:
    made = understood({**PAIR, "system": "s", "history": [["x", "y"]]})
    assert turns(made) == [("s", "s"), ("u", "x"), ("a", "y"), ("u", "q")]
    assert understood({**PAIR, "history": '[["x", "y"]]'}).messages == made.messages[1:]
    assert turns(understood({**PAIR, "history": []})) == [("u", "q")]
    assert reason({**PAIR, "history": "x"}) == "bad_message"


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("tools", [{"name": "f"}], "has_tools"),
        ("tools", '[{"name": "f"}]', "has_tools"),
        ("images", ["x.jpg"], "has_images"),
        ("audio", {"path": "x.wav"}, "has_audio"),
        ("context", "The sky.", "has_context"),
    ],
)
def test_a_column_that_is_not_read_refuses_its_row_unless_it_is_ignored_or_empty(
    column: str, value: Any, why: str
) -> None:
    row = {**PAIR, column: value}
    assert reason(row) == why
    shape = registry.replace(recognise([row], "here"), ignored=frozenset({column}))
    assert shape.understand(row).meta == {column: value}
    for nothing in (None, "", [], "[]", {}, [None]):
        assert turns(understood({**PAIR, column: nothing})) == [("u", "q")]


def test_a_tool_call_in_a_message_refuses_its_row() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    assert reason({"prompt": "q", "chosen": [call], "rejected": "b"}) == "has_tools"


# Tags.


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Human: Hi", [("u", "Hi")]),
        ("Human: Hi\n\nAssistant:", [("u", "Hi")]),
        ("### Human: Hi\n### Assistant:", [("u", "Hi")]),
        ("Human: Hi Assistant:", [("u", "Hi")]),
        ("A chat.\nUSER: Hi\nASSISTANT:", [("s", "A chat."), ("u", "Hi")]),
        ("What does the tag Human: mean?", [("u", "What does the tag Human: mean?")]),
        ("My list:\nuser: bob", [("u", "My list:\nuser: bob")]),
    ],
)
def test_a_tag_at_the_start_of_a_prompt_is_a_turn(prompt: str, expected: list[tuple[str, str]]) -> None:
    assert turns(understood({**PAIR, "prompt": prompt})) == expected


@pytest.mark.parametrize(
    "row",
    [
        {**PAIR, "prompt": "Human: What does Assistant: mean?"},
        {**PAIR, "prompt": "User: a\nUser: b\nAssistant:"},
        {"chosen": "Human: q\nAssistant: a", "rejected": "Human: q\n\nAssistant: b"},
        {"chosen": "User: q\n\nAssistant: a", "rejected": "Human: q\n\nAssistant: b"},
    ],
)
def test_tags_that_can_be_read_in_two_ways_refuse_their_row(row: dict[str, Any]) -> None:
    assert reason(row) == "unclear_turns"


def test_further_turns_in_a_response_are_another_query_in_every_scheme() -> None:
    assert reason({**PAIR, "prompt": "User: q\nAssistant:", "chosen": "a\nUser: x\nAssistant: y"}) == "queries_differ"


# Templates.

LLAMA_2 = "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Why? [/INST]"
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nTranslate.\n\n### Input:\nMaus\n\n### Response:\n"
)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (LLAMA_2, [("s", "Be brief."), ("u", "Hi"), ("a", "Hello"), ("u", "Why?")]),
        ("[INST] Hi [/INST]", [("u", "Hi")]),
        (ALPACA, [("u", "Translate.\nMaus")]),
        ("<|prompter|>Hi<|endoftext|><|assistant|>", [("u", "Hi")]),
        ("<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n", [("s", "Be brief."), ("u", "Hi")]),
        ("<|user|>\nHi<|end|>\n<|assistant|>\n", [("u", "Hi")]),
        ("<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", [("u", "Hi")]),
    ],
)
def test_a_prompt_that_a_template_rendered_is_taken_apart(prompt: str, expected: list[tuple[str, str]]) -> None:
    made = understood({**PAIR, "prompt": prompt, "chosen": "a</s>"})
    assert turns(made) == expected
    assert made.answers[0].text == "a"


@pytest.mark.parametrize(
    "prompt",
    [
        "Say <|im_start|>user\nHi<|im_end|>",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>user\nHo<|im_end|>\n",
        "<|im_start|>user\nHi<|im_end|> and <|im_end|>\n<|im_start|>assistant\n",
        "Continue. [/INST]",
    ],
)
def test_a_prompt_that_is_partly_rendered_is_refused_with_a_hint(prompt: str) -> None:
    with pytest.raises(Unusable, match="give its turns"):
        understood({**PAIR, "prompt": prompt})


# Cells.


def test_a_cell_is_read_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    cell = f"[{{'role': 'user', 'content': open({str(marker)!r}, 'w')}}]"
    assert reason({"prompt": cell, "chosen": "a", "rejected": "b"}) == "bad_message"
    assert not marker.exists()


@pytest.mark.parametrize("cell", ["[{'role': 'user'" + "[" * 5_000, "[{'role': 'user', 'content': " + "(" * 5_000])
def test_a_cell_that_is_nested_too_deeply_is_a_reject(cell: str) -> None:
    assert reason({"prompt": cell, "chosen": "a", "rejected": "b"}) == "bad_message"


@pytest.mark.parametrize("text", ['["a", "b"]', '[{"name": "x"}]', "[sic]", '[{"role": "admin"}]', "{'a': 1}"])
def test_an_answer_that_is_a_list_of_something_else_stays_text(text: str) -> None:
    assert understood({**PAIR, "chosen": text}).answers[0].text == text


# Verdicts.


@pytest.mark.parametrize(
    "names",
    [
        ("score_chosen", "score_rejected"),
        ("chosen_rating", "rejected_rating"),
        ("chosen-rating", "rejected-rating"),
        ("rating_chosen", "rating_rejected"),
        ("chosen_avg_rating", "rejected_avg_rating"),
    ],
)
def test_a_tie_under_any_spelling_is_no_verdict(names: tuple[str, str]) -> None:
    tie = understood({**PAIR, names[0]: 4, names[1]: "4.0"})
    assert (tie.order, [answer.reward for answer in tie.answers]) == ((), [4.0, 4.0])
    assert understood({**PAIR, names[0]: 4, names[1]: 3}).order == (0, 1)
    blank = understood({**PAIR, names[0]: "", names[1]: ""})
    assert (blank.order, blank.answers[0].reward) == ((0, 1), None)


def test_ratings_inside_metadata_and_a_list_of_two_tie_as_well() -> None:
    assert understood({**PAIR, "metadata": {"score_chosen": 1, "score_rejected": 1}}).order == ()
    assert understood({**PAIR, "rating": [9.0, 9.0]}).order == ()
    assert understood({**PAIR, "rating": [9.0, 3.0]}).order == (0, 1)


@pytest.mark.parametrize(
    ("more", "order"),
    [
        ({"ranking": [1, 0]}, (1, 0)),
        ({"ranking": [2, 1]}, (1, 0)),
        ({"ranks": [2, 1]}, (1, 0)),
        ({"rank": [1, 1]}, ()),
        ({"chosen": 1}, (1, 0)),
        ({"chosen": "b"}, (1, 0)),
        ({"scores": [1, 2]}, (1, 0)),
        ({"ratings": [2, 1]}, (0, 1)),
    ],
)
def test_what_stands_beside_a_list_orders_it(more: dict[str, Any], order: tuple[int, ...]) -> None:
    assert understood({"prompt": "q", "responses": ["a", "b"], **more}).order == order


def test_a_ranking_of_two_meanings_is_refused_and_named_one_is_read() -> None:
    row = {"prompt": "q", "responses": ["a", "b", "c"], "ranking": [1, 2, 0]}
    assert reason(row) == "bad_label"
    for word, order in (("ranks", (2, 0, 1)), ("order", (1, 2, 0))):
        shape = registry.mapped({"prompt": "prompt", "responses": "responses", word: "ranking"})
        assert shape.understand(row).order == order


@pytest.mark.parametrize(
    ("preference", "order"),
    [(1, (0, 1)), ("2", (1, 0)), (2.0, (1, 0)), ("tie", ()), ("model_a", (0, 1)), ("output_2", (1, 0))],
)
def test_a_preference_names_one_of_two(preference: Any, order: tuple[int, ...]) -> None:
    row = {"instruction": "q", "output_1": "a", "output_2": "b", "preference": preference}
    assert understood(row).order == order


@pytest.mark.parametrize("preference", [0, 3, None, True, "", "maybe", [], {}])
def test_a_preference_that_names_none_is_refused(preference: Any) -> None:
    assert reason({"instruction": "q", "output_1": "a", "output_2": "b", "preference": preference}) == "bad_label"


def test_raters_who_disagree_are_counted() -> None:
    row = {"prompt": "q", "response1": "a", "response2": "b"}
    votes = [{"value": 1}, {"value": 2}, {"value": 2}]
    assert understood({**row, "preference": votes}).order == (1, 0)
    assert understood({**row, "preference": votes[:2]}).order == ()


@pytest.mark.parametrize(
    ("label", "good"),
    [(1.0, True), ("1.0", True), (0.0, False), (-1, False), ("-1", False), ("desirable", True), ("Undesirable", False)],
)
def test_labels_in_their_spellings(label: Any, good: bool) -> None:
    assert understood({"prompt": "q", "completion": "a", "label": label}).verdict is good


@pytest.mark.parametrize("score", [1e300, 10**400, "1e39", float("inf")])
def test_a_score_that_float32_does_not_hold_is_a_reject(score: Any) -> None:
    assert reason({**PAIR, "score_chosen": score, "score_rejected": 0}) == "bad_score"


def test_a_list_longer_than_is_read_is_a_reject_by_name() -> None:
    row = {"prompt": "q", "responses": [f"answer {n}" for n in range(1_001)]}
    assert reason(row) == "too_many_responses"


# A user's own columns.


def test_columns_are_named_by_dotted_paths_and_positions() -> None:
    row = {"q": {"text": "Why?"}, "answers": [{"t": "a"}, {"t": "b"}], "sys": "Be brief.", "a.b": 1}
    places = columns.mapping("prompt=q.text, chosen=answers.1.t,rejected=answers.0.t,system=sys")
    made = registry.mapped(places).understand(row)
    assert turns(made) == [("s", "Be brief."), ("u", "Why?")]
    assert [answer.text for answer in made.answers] == ["b", "a"]
    assert made.meta == {"answers": row["answers"], "a.b": 1}
    assert columns.value_at(row, "a.b") == 1
    assert columns.value_at({"cell": '{"x": [5]}'}, "cell.x.0") == 5


def test_columns_may_stand_in_a_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "columns.yaml"
    path.write_text("prompt: question\nresponses: answers\n")
    assert columns.mapping(str(path)) == {"prompt": "question", "responses": "answers"}
    path.write_text("- prompt\n")
    with pytest.raises(InputError, match="no mapping"):
        columns.mapping(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt", "is not WORD=PLACE"),
        ("prompt=a,prompt=b", "names a word again"),
        ("question=a", "no such word 'question'"),
    ],
)
def test_a_mapping_that_says_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        columns.mapping(text)


def test_words_that_make_no_row_are_refused() -> None:
    with pytest.raises(InputError, match="chosen and rejected; responses;"):
        registry.mapped({"prompt": "a", "chosen": "b"})


def test_a_place_that_a_row_lacks_is_a_missing_column() -> None:
    shape = registry.mapped({"prompt": "q.text", "chosen": "a", "rejected": "b"})
    with pytest.raises(Unusable, match="missing_column"):
        shape.understand({"q": {}, "a": "x", "b": "y"})


@pytest.mark.parametrize(
    ("row", "option"),
    [
        ({"frage": "q", "x": "a", "y": "b"}, "prompt=frage,chosen=COLUMN,rejected=COLUMN"),
        ({"ask": "q", "good_reply": "a", "bad_reply": "b"}, "prompt=ask,chosen=good_reply,rejected=bad_reply"),
        ({"p": {"question": "q"}, "all": {"answers": ["a", "b"]}}, "prompt=p.question,responses=all.answers"),
        (
            {"question": "q", "text_a": "a", "text_b": "b"},
            "prompt=question,response_a=text_a,response_b=text_b,better=COLUMN",
        ),
        (
            {"sys": "s", "query": "q", "reply": "a", "thumbs_feedback": 1},
            "system=sys,prompt=query,completion=reply,label=thumbs_feedback",
        ),
    ],
)
def test_the_mapping_that_comes_nearest_can_be_pasted(row: dict[str, Any], option: str) -> None:
    assert mapping([row]) == option


def test_a_message_says_the_role_in_any_spelling() -> None:
    roles = {"developer": "system", "bot": "assistant", "chatgpt": "assistant", "model": "assistant", "Human": "user"}
    for role, meant in roles.items():
        assert registry.pairs.chat.message({"role": role, "content": "x"}, "m") == Message(meant, "x")


def test_the_documentation_lists_every_word_of_a_mapping_and_every_reason() -> None:
    page = (Path(__file__).parents[5] / "docs" / "formats" / "sources.md").read_text(encoding="utf-8")
    for name, meaning in {**columns.WORDS, **REASONS}.items():
        assert f"| `{name}` | {meaning} |" in page


# A text below the prompt.


def test_an_input_beside_a_plain_prompt_is_asked_unless_the_prompt_says_it() -> None:
    assert turns(understood({**PAIR, "input": " more "})) == [("u", "q\n more")]
    assert understood({**PAIR, "prompt": "q more", "input": "more"}).meta == {"input": "more"}
    assert turns(understood({**PAIR, "prompt": "q more", "input": "more"})) == [("u", "q more")]
    assert turns(understood({**PAIR, "input": "  "})) == [("u", "q")]


def test_an_input_beside_turns_refuses_its_row_unless_they_hold_it_or_it_is_ignored() -> None:
    asked = [{"role": "user", "content": "q"}]
    assert reason({**PAIR, "prompt": asked, "input": "more"}) == "has_context"
    assert reason({**PAIR, "prompt": "\n\nHuman: q\n\nAssistant:", "input": "more"}) == "has_context"
    assert turns(understood({**PAIR, "prompt": asked, "input": "q"})) == [("u", "q")]
    row = {**PAIR, "prompt": asked, "input": "more"}
    shape = registry.replace(recognise([row], "here"), ignored=frozenset({"input"}))
    assert shape.understand(row).meta == {"input": "more"}
    whole = [*asked, {"role": "assistant", "content": "a"}]
    other = [*asked, {"role": "assistant", "content": "b"}]
    assert understood({"prompt": "q", "chosen": whole, "rejected": other, "input": "more"}).meta == {"input": "more"}
