"""What each shape of row becomes, and why a row is refused. Expected values are written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.record import Message, Messages, query_id
from neat_data.sources import Reject, Row, SourceAnswer, open_source
from neat_data.sources.row import REASONS, Unusable
from neat_data.sources.shapes.context import REFUSED
from neat_data.sources.shapes.registry import SHAPES, Shape
from tests.support.examples import a_quarter

Read = Any


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read one row, written as a line of JSON."""

    def read_row(row: dict[str, Any], format: str = "auto") -> Row | Reject:
        path = tmp_path / "row.jsonl"
        path.write_text(json.dumps(row) + "\n")
        (made,) = open_source(str(path), format=format).rows()
        return made

    return read_row


def hh(*turns: str) -> str:
    """`hh("q", "a", "q")`: turns alternate, the first is Human."""
    return "".join(f"\n\n{'Assistant' if n % 2 else 'Human'}: {turn}" for n, turn in enumerate(turns))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


CHAT: Messages = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Why?"))
TURNS = [user("Hi"), assistant("Hello"), user("Why?")]
FROM = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}, {"from": "human", "value": "Why?"}]
PROMPT = hh("Hi", "Hello", "Why?") + "\n\nAssistant:"
TYPED = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in TURNS]

SAME_PAIR: dict[str, dict[str, Any]] = {
    "HH": {"chosen": hh("Hi", "Hello", "Why?", "Good"), "rejected": hh("Hi", "Hello", "Why?", " Bad ")},
    "full-HH": {"prompt": PROMPT, "chosen": " Good", "rejected": " Bad"},
    "full-HH without the open tag": {"prompt": hh("Hi", "Hello", "Why?"), "chosen": "Good", "rejected": "Bad"},
    "full-HH that repeats the prompt": {"prompt": PROMPT, "chosen": f"{PROMPT} Good", "rejected": f"{PROMPT} Bad"},
    "TRL, explicit prompt": {"prompt": TURNS, "chosen": [assistant("Good")], "rejected": [assistant("Bad")]},
    "TRL, implicit prompt": {"chosen": [*TURNS, assistant("Good")], "rejected": [*TURNS, assistant("Bad")]},
    "TRL, prompt repeated": {
        "prompt": TURNS,
        "chosen": [*TURNS, assistant("Good")],
        "rejected": [*TURNS, assistant("Bad")],
    },
    "ShareGPT": {
        "conversations": FROM,
        "chosen": {"from": "gpt", "value": "Good"},
        "rejected": {"from": "gpt", "value": "Bad"},
    },
    "message lists": {
        "chosen_messages": [*TYPED, assistant("Good")],
        "rejected_messages": [*TYPED, {"role": "assistant", "content": [{"type": "text", "value": "Bad"}]}],
    },
    "binarized UltraFeedback": {
        "prompt": "Hi",
        "chosen": [*TURNS, assistant("Good")],
        "rejected": [*TURNS, assistant("Bad")],
        "messages": [*TURNS, assistant("Good")],
    },
    "prompt and responses": {"prompt": PROMPT, "responses": [" Good", " Bad"], "scores": [2, 1]},
    "RRHF": {"query": PROMPT, "responses": ["Good", "Bad"], "scores": [0.5, -1e-3]},
    "PRO": {
        "prefix": [["<|prompter|>Hi", "<|assistant|>Hello", "<|prompter|>Why?", "<|assistant|>"]] * 2,
        "suffix": ["Good", "Bad"],
        "reward": [1.5, 1.25],
    },
    "ranked list": {"instruction": "Why?", "input": "", "output": ["Good", "Bad"], "history": [["Hi", "Hello"]]},
    "PKU": {"prompt": PROMPT, "response_0": "Good", "response_1": "Bad", "better_response_id": 0},
}


@pytest.mark.parametrize("name", SAME_PAIR)
def test_the_same_pair_is_the_same_query_and_responses_in_every_shape(read: Read, name: str) -> None:
    row = read(SAME_PAIR[name])
    assert isinstance(row, Row), row
    assert row.messages == CHAT
    assert query_id(row.messages) == query_id(CHAT)
    assert [answer.text for answer in row.answers] == ["Good", "Bad"]
    assert row.order == (0, 1)
    assert row.verdict is None
    assert row.meta == {}


def test_a_plain_prompt_is_one_user_turn(read: Read) -> None:
    row = read({"prompt": " Sky? ", "chosen": " blue ", "rejected": "green"})
    assert row.messages == (Message("user", "Sky?"),)
    assert row.answers == (SourceAnswer("blue"), SourceAnswer("green"))


def test_system_turns_are_kept_and_other_columns_go_to_meta(read: Read) -> None:
    row = read({"prompt": [system("Be kind."), user("Hi")], "chosen": "a", "rejected": "b", "source": "x", "n": 3})
    assert row.messages == (Message("system", "Be kind."), Message("user", "Hi"))
    assert row.meta == {"source": "x", "n": 3}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": hh("a", "x"), "rejected": hh("b", "y")}, "queries_differ"),
        ({"chosen": hh("a", "x"), "rejected": hh("a", "y", "c", "z")}, "queries_differ"),
        ({"chosen": hh("a", "x"), "rejected": hh("a", "x") + "\n\nAssistant: y"}, "queries_differ"),
        ({"chosen": hh("a", "x", "c"), "rejected": hh("a", "y")}, "no_response_turn"),
        ({"chosen": "no tags", "rejected": "at all"}, "no_response_turn"),
        (
            {"chosen": hh("a", "b") + "\n\nAssistant: x", "rejected": hh("a", "b") + "\n\nAssistant: y"},
            "query_not_user_turn",
        ),
        ({"chosen": hh(" ", "x"), "rejected": hh(" ", "y")}, "empty_query"),
        ({"chosen": "\n\nAssistant: x", "rejected": "\n\nAssistant: y"}, "empty_query"),
        ({"chosen": hh("a", ""), "rejected": hh("a", "y")}, "empty_response"),
        ({"chosen": hh("a", "x"), "rejected": hh("a", " \n")}, "empty_response"),
        ({"chosen": hh("a", "x"), "rejected": hh("a", "x  ")}, "identical_responses"),
        ({"prompt": PROMPT, "chosen": "Good", "rejected": "Bad\n\nHuman: so?\n\nAssistant: y"}, "queries_differ"),
        ({"prompt": PROMPT, "chosen": None, "rejected": "Bad"}, "not_text"),
        ({"prompt": None, "chosen": "Good", "rejected": "Bad"}, "not_text"),
        ({"prompt": " ", "chosen": "Good", "rejected": "Bad"}, "empty_query"),
        (
            {"prompt": "other", "chosen": [user("Hi"), assistant("a")], "rejected": [user("Hi"), assistant("b")]},
            "queries_differ",
        ),
        ({"prompt": [user("a")], "chosen": [user("b"), assistant("x")], "rejected": "y"}, "queries_differ"),
        ({"chosen": [user("a"), {"role": "tool", "content": "x"}], "rejected": "y"}, "unknown_role"),
        ({"chosen": [user("a"), {"role": "function", "content": "x"}], "rejected": "y"}, "unknown_role"),
        ({"chosen": [user("a"), {"role": "assistant"}], "rejected": "y"}, "bad_message"),
        ({"chosen": [user("a"), {"role": "assistant", "content": None}], "rejected": "y"}, "not_text"),
        ({"chosen": [user("a"), "text"], "rejected": "y"}, "bad_message"),
        ({"chosen": [{"role": "user", "content": [{"type": "image", "image": "x"}]}], "rejected": "y"}, "bad_message"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": "high", "score_rejected": 1}, "bad_score"),
        ({"prompt": "q", "completion": "a", "label": "yes"}, "bad_label"),
        ({"prompt": "q", "completion": "a", "label": None}, "bad_label"),
        ({"prompt": "q", "completion": "a", "label": 2}, "bad_label"),
        ({"prompt": "q", "completion": " ", "label": True}, "empty_response"),
        ({"messages": [user("a")], "label": True}, "no_response_turn"),
        ({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 2}, "bad_label"),
        ({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": True}, "bad_label"),
        ({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": -1}, "bad_label"),
        ({"prompt": "q", "response_0": "a", "response_1": "a", "better_response_id": 1}, "identical_responses"),
        ({"prompt": "q", "responses": ["a"]}, "too_few_responses"),
        ({"prompt": "q", "responses": "a"}, "too_few_responses"),
        ({"prompt": "q", "responses": ["a", "a"]}, "identical_responses"),
        ({"prompt": "q", "responses": ["a", "b"], "scores": [1]}, "bad_score"),
        ({"instruction": "q", "output": "a"}, "too_few_responses"),
        ({"instruction": 7, "output": ["a", "b"]}, "not_text"),
        ({"instruction": "q", "output": ["a", "b"], "history": [["one"]]}, "bad_message"),
        ({"instruction": "q", "output": ["a", "b"], "history": True}, "bad_message"),
        ({"instruction": "q", "output": ["a", "b"], "input": 0}, "not_text"),
        ({"prefix": ["q", "r"], "suffix": ["a", "b"]}, "queries_differ"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(read: Read, row: dict[str, Any], reason: str) -> None:
    made = read(row)
    assert isinstance(made, Reject), made
    assert made.reason == reason
    assert json.loads(made.raw) == row


def test_every_reason_that_is_raised_is_a_documented_one() -> None:
    folder = Path(__file__).parents[5] / "neat_data" / "sources"
    source = "".join(path.read_text() for path in folder.rglob("*.py"))
    raised = {part.partition('"')[0] for part in source.split('Unusable("')[1:]}
    assert raised | set(REFUSED.values()) == set(REASONS)


def test_unpaired_rows_have_one_answer_and_a_verdict(read: Read) -> None:
    plain = read({"prompt": "q", "completion": "a", "label": True})
    assert (plain.answers, plain.order, plain.verdict) == ((SourceAnswer("a"),), (0,), True)
    chat = read({"prompt": [user("q")], "completion": [assistant("a")], "label": False})
    assert (chat.messages, chat.verdict) == ((Message("user", "q"),), False)
    labelled = read({"messages": [*TURNS, assistant("Good")], "label": 1})
    assert (labelled.messages, labelled.answers, labelled.verdict) == (CHAT, (SourceAnswer("Good"),), True)
    sharegpt = read({"conversations": [*FROM, {"from": "gpt", "value": "Good"}], "label": 0})
    assert (sharegpt.messages, sharegpt.verdict) == (CHAT, False)


def test_a_csv_label_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion,label\nq,a,True\nq,b,false\nq,c,maybe\n")
    rows = list(open_source(str(tmp_path / "a.csv")).rows())
    assert [row.verdict if isinstance(row, Row) else row.reason for row in rows] == [True, False, "bad_label"]


def test_scores_become_rewards_and_order_the_list_with_one_answer_a_score(read: Read) -> None:
    row = read({"prompt": "q", "responses": ["a", "b", "c", "d"], "rewards": [1, 3.5, "1.0", -2]})
    assert [answer.reward for answer in row.answers] == [1.0, 3.5, 1.0, -2.0]
    assert row.order == (1, 0, 3)  # c ties with a, which stands first


def test_a_list_without_scores_or_with_all_the_same_has_no_order(read: Read) -> None:
    assert read({"prompt": "q", "responses": ["a", "b"]}).order == ()
    assert read({"prompt": "q", "responses": ["a", "b"], "scores": [4, 4]}).order == ()
    assert read({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 4, "score_rejected": 4}).order == ()


@pytest.mark.parametrize(
    ("score", "reward"), [("1", 1.0), ("10", 10.0), (" 2.5 ", 2.5), ("-1e-2", -0.01), (7, 7.0), ("007", 7.0)]
)
def test_a_score_written_as_text_is_read_from_end_to_end(read: Read, score: Any, reward: float) -> None:
    row = read({"prompt": "q", "responses": ["a", "b"], "scores": [score, 0]})
    assert row.answers[0].reward == reward


@pytest.mark.parametrize(
    "score", ["1/10", "10 points", "", "N/A", "1,5", "0x10", "1_0", "inf", "nan", "١", None, True, [1]]
)
def test_a_score_that_is_no_number_is_never_guessed(read: Read, score: Any) -> None:
    row = read({"prompt": "q", "responses": ["a", "b", "c"], "scores": [score, 1, 2]})
    assert [answer.text for answer in row.answers] == ["b", "c"]
    assert row.meta["left_out"] == [{"index": 0, "reason": "bad_score", "text": "a"}]
    assert read({"prompt": "q", "responses": ["a", "b"], "scores": [score, 1]}).reason == "bad_score"


def test_bad_answers_of_a_list_are_left_out_and_noted(read: Read) -> None:
    row = read({"instruction": "q", "input": "context", "output": ["best", "", None, "best ", "worst"]})
    assert row.messages == (Message("user", "q\ncontext"),)
    assert [answer.text for answer in row.answers] == ["best", "worst"]
    assert row.order == (0, 1)
    assert row.meta["left_out"] == [
        {"index": 1, "reason": "empty_response", "text": ""},
        {"index": 2, "reason": "not_text", "text": None},
        {"index": 3, "reason": "identical_responses", "text": "best "},
    ]


def test_a_response_with_further_turns_is_left_out_of_its_list(read: Read) -> None:
    row = read({"prompt": PROMPT, "responses": ["a", "b\n\nHuman: c\n\nAssistant: d", "e"]})
    assert [answer.text for answer in row.answers] == ["a", "e"]
    assert row.meta["left_out"][0]["reason"] == "queries_differ"


def completion(text: str, model: str, overall: float, fine: float | None) -> dict[str, Any]:
    return {"response": text, "model": model, "overall_score": overall, "fine-grained_score": fine}


def test_ultrafeedback_takes_the_fine_grained_score_where_all_have_one(read: Read) -> None:
    # The overall score of the first is 1 read as 10, an error of the published data.
    items = [completion("bad", "llama", 10, 1.25), completion("good", "gpt", 8.5, 4.75)]
    row = read({"instruction": "q", "completions": items, "source": "evol"})
    assert row.answers == (SourceAnswer("bad", 1.25, "llama"), SourceAnswer("good", 4.75, "gpt"))
    assert row.order == (1, 0)
    assert row.meta == {"source": "evol", "completions": [{"overall_score": 10}, {"overall_score": 8.5}]}


def test_ultrafeedback_never_mixes_two_scales(read: Read) -> None:
    row = read({"instruction": "q", "completions": [completion("a", "x", 7, None), completion("b", "y", 6, 4.9)]})
    assert [answer.reward for answer in row.answers] == [7.0, 6.0]
    none = read({"instruction": "q", "completions": [{"response": "a"}, {"response": "b"}]})
    assert ([answer.reward for answer in none.answers], none.order) == ([None, None], ())


def test_binarized_ultrafeedback_keeps_its_scores_as_rewards(read: Read) -> None:
    row = read({**SAME_PAIR["binarized UltraFeedback"], "score_chosen": 8.0, "score_rejected": 7.5, "prompt_id": "p"})
    assert [answer.reward for answer in row.answers] == [8.0, 7.5]
    assert row.order == (0, 1)
    assert row.meta == {"prompt_id": "p"}


def test_pku_orders_by_the_better_response_and_keeps_the_safer_one_in_meta(read: Read) -> None:
    row = read({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1, "safer_response_id": 0})
    assert row.order == (1, 0)
    assert row.meta == {"safer_response_id": 0}


TEXT = st.sampled_from(["", " ", "q", "a", hh("q", "a"), PROMPT, "1"]) | st.text(max_size=3)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        key: st.sampled_from(["user", "assistant", "gpt"]) | TEXT for key in ("role", "content", "from", "value")
    },
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | MESSAGE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "response"]), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@a_quarter()
@given(data=st.data())
def test_no_value_in_a_column_stops_the_reading(shape: Shape, data: st.DataObject) -> None:
    row = {column: data.draw(VALUE) for column in (*shape.needs, "scores", "history", "score_chosen", "score_rejected")}
    try:
        made = shape.understand(row)
    except Unusable:
        return
    texts = [answer.text for answer in made.answers]
    assert made.messages[-1].role == "user"
    assert all(text and text == text.strip() for text in texts)
    assert len(set(texts)) == len(texts) >= (1 if made.verdict is not None else 2)
    assert set(made.order) <= set(range(len(texts)))
