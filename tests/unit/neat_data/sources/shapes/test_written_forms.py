"""The same dialogue in every layout that can hold it is the same query with the same order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data import dialogue
from neat_data.record import Message, Messages, query_id
from neat_data.sources.row import Understood
from neat_data.sources.shapes.registry import SHAPES, recognise
from tests.support.examples import a_quarter

Dialogue = tuple[Messages, str, str]
Write = Callable[[Messages, str, str], dict[str, Any]]

# What a turn may hold: thoughts, odd white space, brackets and quotes; no tag of a scheme, which would be a turn.
PIECE = st.sampled_from(
    [
        "Hi",
        "<think>\nhm\n</think>\n\nYes",
        "a\n\nb",
        "tab\there",
        'it\'s "so"',
        "{'role': 1} {x}",
        "[1, 2]",
        "c:\\n",
        "\u00e9\u2028\u0301",
        "né ",
    ]
)
TEXT = st.lists(PIECE, min_size=1, max_size=3).map(" ".join).map(str.strip)
PADDING = st.sampled_from(["", " ", "\n", "\t \n"])


@st.composite
def dialogues(draw: st.DrawFn) -> Dialogue:
    """A query of one to three exchanges, perhaps behind a system turn, with two answers to it."""
    system = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    turns = [Message(("user", "assistant")[n % 2], draw(TEXT)) for n in range(2 * draw(st.integers(0, 2)) + 1)]
    good = draw(TEXT)
    return (*system, *turns), good, draw(TEXT.filter(lambda text: text != good))


def listed(messages: Messages, *more: Message, role: str = "role", content: str = "content") -> list[dict[str, str]]:
    return [{role: turn.role, content: turn.content} for turn in (*messages, *more)]


def sharegpt(messages: Messages) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[turn.role], "value": turn.content} for turn in messages]


def answer(text: str) -> Message:
    return Message("assistant", text)


def with_columns(messages: Messages) -> dict[str, Any]:
    """System, history and last turn in columns of their own."""
    system = {"system": messages[0].content} if messages[0].role == "system" else {"system": None}
    turns = messages[1:] if messages[0].role == "system" else messages
    pairs = [[turns[n].content, turns[n + 1].content] for n in range(0, len(turns) - 1, 2)]
    return {**system, "history": pairs, "instruction": turns[-1].content}


def numpy_list(messages: list[dict[str, str]]) -> str:
    return f"[{' '.join(map(repr, messages))}]"


def chatml(messages: Messages) -> str:
    turns = "".join(f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n" for turn in messages)
    return f"{turns}<|im_start|>assistant\n"


def llama3(messages: Messages) -> str:
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    turns = "".join(f"{head.format(turn.role)}{turn.content}<|eot_id|>" for turn in messages)
    return f"<|begin_of_text|>{turns}{head.format('assistant')}"


WRITTEN: dict[str, Write] = {
    "TRL, explicit prompt": lambda q, g, b: {"prompt": listed(q), "chosen": [*listed((), answer(g))], "rejected": b},
    "TRL, implicit prompt": lambda q, g, b: {"chosen": listed(q, answer(g)), "rejected": listed(q, answer(b))},
    "JSON in cells": lambda q, g, b: {
        "chosen": json.dumps(listed(q, answer(g))),
        "rejected": json.dumps(listed(q, answer(b)), ensure_ascii=False),
    },
    "Python in cells": lambda q, g, b: {
        "prompt": repr(listed(q)),
        "chosen": repr(listed((), answer(g))),
        "rejected": repr(listed((), answer(b))),
    },
    "numpy in cells": lambda q, g, b: {
        "chosen": numpy_list(listed(q, answer(g))),
        "rejected": numpy_list(listed(q, answer(b))),
    },
    "ShareGPT": lambda q, g, b: {
        "conversations": sharegpt(q),
        "chosen": {"from": "bot", "value": g},
        "rejected": {"from": "gpt", "value": b},
    },
    "parts": lambda q, g, b: {
        "prompt": [{"role": t.role, "content": [{"type": "text", "text": t.content}]} for t in q],
        "chosen": g,
        "rejected": b,
    },
    "OpenAI": lambda q, g, b: {
        "input": {"messages": listed(q), "tools": []},
        "preferred_output": listed((), answer(g)),
        "non_preferred_output": listed((), answer(b)),
    },
    "LLaMA-Factory": lambda q, g, b: {**with_columns(q), "input": "", "chosen": g, "rejected": b},
    "ranked": lambda q, g, b: {**with_columns(q), "output": [g, b]},
    "scores": lambda q, g, b: {"prompt": listed(q), "responses": [b, g], "scores": [1, 2]},
    "objects": lambda q, g, b: {
        "prompt": listed(q),
        "responses": [{"text": b, "rank": 2}, {"text": g, "rank": 1}],
    },
    "Vertex": lambda q, g, b: {
        "contents": [{"role": t.role, "parts": [{"text": t.content}]} for t in q],
        "completions": [
            {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
            for score, text in ((0.0, b), (1.0, g))
        ],
    },
    "ms-swift": lambda q, g, b: {"messages": listed(q, answer(g)), "rejected_response": b},
    "HelpSteer3": lambda q, g, b: {"context": listed(q), "response1": b, "response2": g, "overall_preference": 1},
    "arena": lambda q, g, b: {
        "conversation_a": listed(q, answer(b)),
        "conversation_b": listed(q, answer(g)),
        "winner": "model_b",
    },
    "HH": lambda q, g, b: {"chosen": dialogue.hh_text((*q, answer(g))), "rejected": dialogue.hh_text((*q, answer(b)))},
    "full-HH": lambda q, g, b: {"prompt": f"{dialogue.hh_text(q)}\n\nAssistant:", "chosen": f" {g}", "rejected": b},
    "ChatML": lambda q, g, b: {"prompt": chatml(q), "chosen": f"{g}<|im_end|>", "rejected": f"{b}<|im_end|>"},
    "LLaMA-3": lambda q, g, b: {"prompt": llama3(q), "chosen": g, "rejected": b},
}


def understood(row: dict[str, Any]) -> Understood:
    return recognise([row], "here", SHAPES).understand(row)


def ordered(made: Understood) -> list[str]:
    return [made.answers[position].text for position in made.order]


@pytest.mark.parametrize("layout", WRITTEN)
@a_quarter()
@given(written=dialogues())
def test_a_dialogue_is_the_same_query_and_order_in_every_layout(layout: str, written: Dialogue) -> None:
    query, good, bad = written
    made = understood(WRITTEN[layout](query, good, bad))
    assert made.messages == query
    assert query_id(made.messages) == query_id(query)
    assert ordered(made) == [good, bad]


@pytest.mark.parametrize("layout", ["TRL, explicit prompt", "LLaMA-Factory", "OpenAI", "full-HH"])
@given(written=dialogues(), before=PADDING, after=PADDING)
def test_white_space_around_answers_changes_nothing(layout: str, written: Dialogue, before: str, after: str) -> None:
    query, good, bad = written
    made = understood(WRITTEN[layout](query, f"{before}{good}{after}", f"{after}{bad}{before}"))
    assert (made.messages, ordered(made)) == (query, [good, bad])


UNKNOWN = st.text(st.characters(categories=["Ll"]), min_size=4, max_size=9).map(lambda name: f"zz_{name}")
VALUE = st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2)


@pytest.mark.parametrize("layout", WRITTEN)
@a_quarter()
@given(written=dialogues(), name=UNKNOWN, value=VALUE)
def test_a_column_that_nobody_knows_changes_nothing_and_is_kept(
    layout: str, written: Dialogue, name: str, value: Any
) -> None:
    row = WRITTEN[layout](*written)
    made = understood({**row, name: value})
    assert (made.messages, ordered(made)) == (written[0], list(written[1:]))
    assert made.meta[name] == value


# Each tag scheme as its separator, its user's tag, its assistant's tag.
SCHEMES = [
    ("\n\n", "Human", "Assistant"),
    ("\n", "Human", "Assistant"),
    ("\r\n\r\n", "Human", "Assistant"),
    ("\n", "### Human", "### Assistant"),
    ("\n\n", "User", "Assistant"),
    ("\n", "USER", "ASSISTANT"),
    ("\n\n", "human", "assistant"),
    ("\n", "User", "AI"),
]
LINE = st.sampled_from(["Hi", "it's so", "12: 30", "[x]", "é"])


@pytest.mark.parametrize(("separator", "user", "assistant"), SCHEMES)
@given(turns=st.lists(LINE, min_size=1, max_size=5).filter(lambda turns: len(turns) % 2 == 1))
def test_every_scheme_of_tags_reads_as_hh_does(separator: str, user: str, assistant: str, turns: list[str]) -> None:
    query = tuple(Message(("user", "assistant")[n % 2], text) for n, text in enumerate(turns))
    tags = {"user": user, "assistant": assistant}
    asked = separator.join(f"{tags[turn.role]}: {turn.content}" for turn in query) + f"{separator}{assistant}:"
    pair = {"chosen": f"{asked} Good", "rejected": f"{asked} Bad"}
    prompted = {"prompt": asked, "chosen": "Good", "rejected": " Bad"}
    for row in (pair, prompted, {**pair, "prompt": asked}):
        made = understood(row)
        assert (made.messages, ordered(made)) == (query, ["Good", "Bad"])
