"""A thought apart from its answer, by the text alone."""

from __future__ import annotations

import pytest

from neat_data.models.answers import score_parts
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.record import Message
from neat_data.thought import CHANNEL, MARKED, MARKS, Thought, answer_of, thought_of, without_channels


@pytest.mark.parametrize(("opens", "closes"), MARKS)
def test_every_pair_of_marks_parts_a_text(opens: str, closes: str) -> None:
    assert thought_of(f" {opens}\nSo.\n{closes}\n\nYes.\n") == Thought("So.", True, "Yes.")
    assert thought_of(f"So.\n{closes}\n\nYes.") == Thought("So.", True, "Yes.")  # opened by the header
    assert thought_of(f"{opens}\nSo") == Thought("So", False, "")
    assert thought_of(f"{opens}\nSo.{closes}") == Thought("So.", True, "")
    assert thought_of(f"{opens}{closes}Yes.") == Thought("", True, "Yes.")


@pytest.mark.parametrize("text", ["", "Yes.", "Write <think> first, then </think>.", "1 < 2", "I think>so"])
def test_an_answer_that_speaks_of_marks_is_no_thought(text: str) -> None:
    assert thought_of(text) is None
    assert answer_of(text) == text


def test_the_first_mark_that_closes_ends_the_thought() -> None:
    assert answer_of("<think>So.</think>Say </think> at the end.") == "Say </think> at the end."


def test_what_never_ends_has_no_answer() -> None:
    assert answer_of("<think>So") is None
    assert answer_of("<think>So</think>\n") is None


AGAIN = "<|end|><|start|>assistant<|channel|>"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (f"<|channel|>analysis<|message|>So.{AGAIN}final<|message|>Yes.<|return|>", "<think>\nSo.\n</think>\n\nYes."),
        (
            f"<|channel|>analysis<|message|>So.{AGAIN}commentary<|message|>Hm.{AGAIN}final<|message|>Yes.",
            "<think>\nSo.\n\nHm.\n</think>\n\nYes.",
        ),
        ("<|channel|>final<|message|>Yes.<|return|>", "Yes."),
        (f"<|channel|>analysis<|message|>{AGAIN}final<|message|>Yes.", "<think>\n\n</think>\n\nYes."),
        ("<|channel|>analysis<|message|>So", "<think>\nSo"),
        ("<|channel|>analysis<|message|>So.<|end|>", "<think>\nSo.\n</think>"),
        (f"<|channel|>analysis<|message|>So.{AGAIN}", "<think>\nSo.\n</think>"),
        (f"<|channel|>analysis<|message|>So.{AGAIN}final<|message|>", "<think>\nSo.\n</think>"),
        ("Say <|channel|>final<|message|>.", "Say <|channel|>final<|message|>."),
    ],
)
def test_channels_are_thought_and_answer(text: str, plain: str) -> None:
    assert without_channels(text) == plain
    assert thought_of(text) == thought_of(plain)
    assert answer_of(text) == answer_of(plain)


def test_every_mark_is_among_those_that_texts_are_searched_for() -> None:
    import re

    assert all(re.search(MARKED, mark) for pair in (*MARKS, (CHANNEL,)) for mark in pair)
    assert not re.search(MARKED, "I think so")


class Lengths:
    """A reward model of lengths, that remembers what it was asked, and refuses what begins with `x`."""

    def __init__(self, part: str) -> None:
        self.spec = RewardModelSpec("lengths", score=part)  # type: ignore[arg-type]
        self.asked: list[tuple[str, ...]] = []

    def score(self, tasks, *, token_budget, advance):
        self.asked += [task.texts for task in tasks]
        advance(len(tasks), 0)
        refused = [tuple("too_odd" if text[0] == "x" else None for text in task.texts) for task in tasks]
        rewards = [tuple(None if text[0] == "x" else float(len(text)) for text in task.texts) for task in tasks]
        details = [tuple("odd" if reason else None for reason in reasons) for reasons in refused]
        return [
            Scored(*parts[:2], turns_cut=1, details=parts[2]) for parts in zip(rewards, refused, details, strict=True)
        ]


QUERY = (Message("user", "And?"),)
TASKS = [
    Task(QUERY, ("Yes.", "<think>So.</think>No.", "<think>So", "x")),
    Task(QUERY, ("<think>So",)),
    Task(QUERY, ("So.</think>Perhaps.",)),
]


def test_the_answer_alone_is_scored() -> None:
    model, done = Lengths("answer"), []
    scored = score_parts(model, TASKS, None, lambda tasks, tokens: done.append(tasks))
    assert model.asked == [("Yes.", "No.", "x"), ("Perhaps.",)]
    assert [found.rewards for found in scored] == [(4.0, 3.0, None, None), (None,), (8.0,)]
    assert [found.refused for found in scored] == [(None, None, "no_answer", "too_odd"), ("no_answer",), (None,)]
    assert [found.details for found in scored] == [(None, None, None, "odd"), (), (None,)]
    assert [found.turns_cut for found in scored] == [1, 0, 1]
    assert sum(done) == len(TASKS)


def test_whole_responses_are_scored_where_that_is_asked_for() -> None:
    model = Lengths("whole")
    scored = score_parts(model, TASKS, None, lambda tasks, tokens: None)
    assert model.asked == [task.texts for task in TASKS]
    assert scored[1].rewards == (9.0,)
