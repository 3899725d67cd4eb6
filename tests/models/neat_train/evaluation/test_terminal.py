"""What `eval` prints names what it compares."""

from __future__ import annotations

import polars as pl
import pytest

from neat_train.evaluation import figures
from neat_train.evaluation.folder import ANSWERS
from neat_train.evaluation.result import AskedQueries, EvalResult, EvaluatedPolicy
from neat_train.evaluation.subject import named_prompt
from neat_train.evaluation.terminal import tables

REWARDS = {"sampled": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "negative": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}


def result(prompt: str, negative: str) -> EvalResult:
    """Of an evaluation whose answers have one reward less under the negative prompt."""
    usual = {"source": "s", "query": "q", "text": "word", "tokens": 4, "finished": True, "empty": False}
    rows = [
        {**usual, "decoding": decoding, "query_id": str(number), "refusal": False, "reward/a": reward}
        for decoding, rewards in REWARDS.items()
        for number, reward in enumerate(rewards)
    ]
    answers = pl.DataFrame(rows, schema={**ANSWERS, "reward/a": pl.Float64, "chosen/a": pl.Float64})
    settings = {"prompt": named_prompt(prompt).to_dict(), "negative": named_prompt(negative).to_dict()}
    return EvalResult(
        format=1,
        subject=EvaluatedPolicy("m", "m", "model", None, None, "w"),
        queries=AskedQueries("s", "s", 6, "h", 0, {}),
        prompt=prompt,
        seed=0,
        settings=settings,
        decodings=figures.decodings(answers, ["a"]),
    )


@pytest.mark.parametrize(
    ("prompt", "negative", "words"),
    [
        ("none", "negative", "under the prompt negative (negative) minus those without a prompt (sampled)"),
        (
            "positive",
            "negative",
            "under the prompt negative (negative) minus those under the prompt positive (sampled)",
        ),
        ("none", "none", "without a prompt (negative) minus those without a prompt (sampled)"),
    ],
)
def test_whether_the_negative_prompt_is_obeyed_is_told_with_the_names_of_both_prompts(prompt, negative, words):
    _, rewards = tables(result(prompt, negative))
    # All six differences are -1: of 2^6 exchanges two go as far.
    assert f"Answers {words}, query by query: -1.00 (-1.00 to -1.00), p 0.0312." in rewards.note


@pytest.mark.parametrize(
    ("negative", "words"),
    [
        ("negative", "negative: answers under the prompt negative, which an aligned policy should not obey."),
        ("positive", "negative: answers under the prompt positive."),
        ("none", "negative: answers without a prompt."),
    ],
)
def test_what_the_negative_answers_are_is_what_was_asked_for(negative, words):
    assert tables(result("none", negative))[0].note == words
