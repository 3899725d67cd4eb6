"""One record and one answer of the model: what is stored and what is rejected."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from neat_data.errors import RunError
from neat_data.models.out_of_memory import OutOfMemory, score_tasks
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.record import Label, Message, Record, Response, query_id, response_id
from neat_data.scoring.assemble import assemble, check_finite, given

MESSAGES = (Message("user", "question"),)
QUERY = query_id(MESSAGES)
A, B, C = (response_id(QUERY, text) for text in "abc")


def label(row: int, *order: str, verdict: bool | None = None) -> Label:
    return Label("rows.jsonl", None, "train", row, order, verdict)


def record(*labels: Label, meta: str | None = None) -> Record:
    return Record(QUERY, MESSAGES, tuple(Response(i, t) for i, t in zip((A, B, C), "abc", strict=True)), labels, meta)


def test_rewards_rank_the_responses_and_ties_keep_source_order() -> None:
    stored, rejects = assemble(record(label(0, A, B)), Scored((1.0, 2.0, 1.0), (None, None, None)))
    assert stored is not None
    assert [(r.text, r.reward) for r in stored.responses] == [("b", 2.0), ("a", 1.0), ("c", 1.0)]
    assert stored.labels == (label(0, A, B),)
    assert rejects == []


def test_a_pair_that_loses_a_response_is_rejected_and_a_list_goes_on() -> None:
    scored = Scored((None, 2.0, 1.0), ("response_too_long", None, None))
    stored, rejects = assemble(record(label(0, A, B), label(1, B, A, C), meta='{"k":1}'), scored)
    assert stored is not None
    assert [r.text for r in stored.responses] == ["b", "c"]
    assert stored.labels == (label(1, B, C),)
    assert [(r["row"], r["reason"]) for r in rejects] == [(0, "response_too_long")]
    assert json.loads(rejects[0]["raw"])["responses"] == ["a", "b", "c"]
    assert json.loads(stored.meta or "") == {"k": 1, "left_out": [{"reason": "response_too_long", "text": "a"}]}


def test_a_reject_says_what_the_template_or_the_judge_said() -> None:
    refused = ("template_refused", None, None)
    scored = Scored((None, 1.0, 2.0), refused, details=("no system turns, please", None, None))
    _, rejects = assemble(record(label(0, A, B)), scored)
    assert rejects[0]["detail"] == "a response of this row could not be scored: no system turns, please"


def test_a_record_of_which_no_row_is_left_is_not_stored() -> None:
    scored = Scored((None, None, None), ("query_too_long",) * 3)
    stored, rejects = assemble(record(label(0, A, B), label(1), label(2, C, verdict=True)), scored)
    assert stored is None
    assert [(r["row"], r["reason"]) for r in rejects] == [(n, "query_too_long") for n in range(3)]


def test_a_row_that_says_nothing_and_a_verdict_stay_while_their_response_does() -> None:
    scored = Scored((None, 1.0, 0.0), ("response_too_long", None, None))
    stored, rejects = assemble(record(label(0), label(1, B, verdict=False), label(2, A, verdict=True)), scored)
    assert stored is not None
    assert stored.labels == (label(0), label(1, B, verdict=False))
    assert [r["row"] for r in rejects] == [2]


def test_a_reward_that_is_not_finite_names_its_row() -> None:
    settings = {"model": "m", "path": "trees", "attention": "neat_trees_flex", "dtype": "bfloat16"}
    way = ", by path trees, attention neat_trees_flex, dtype bfloat16"
    scored = [Scored((0.0, float("nan"), None), (None, None, "response_too_long"))]
    with pytest.raises(RunError, match=rf"nan for response {B} of row 7 of rows\.jsonl \(query {QUERY}\){way}\.\n"):
        check_finite([record(label(7, A, B))], scored, settings)
    with pytest.raises(RunError, match=rf"\(query {QUERY}\)\.\n"):  # a back end that does not say how
        check_finite([record(label(7, A, B))], scored, {})


def test_rewards_of_the_source_that_a_model_replaces_are_kept_in_the_metadata() -> None:
    responses = (Response(A, "a", reward=0.25), Response(B, "b", reward=2.0), Response(C, "c"))
    rewarded = Record(QUERY, MESSAGES, responses, (label(0, A, B),))
    stored, _ = assemble(rewarded, Scored((1.0, 2.0, 3.0), (None, None, None)))
    assert stored is not None
    assert json.loads(stored.meta or "") == {"source_rewards": {A: 0.25}}
    assert stored.response(A).reward == 1.0


def test_rewards_of_the_source_are_taken_as_they_are() -> None:
    with_one = Record(QUERY, MESSAGES, (Response(A, "a", reward=0.25), Response(B, "b")), (label(0, A, B),))
    assert given(with_one) == Scored((0.25, None), (None, "no_reward"))


class Cramped:
    """A model on a device with room for `room` tokens in a pass."""

    def __init__(self, room: int) -> None:
        self.spec = RewardModelSpec("cramped", token_budget=1000)
        self.settings: dict[str, object] = {}
        self.notes: list[str] = []
        self.room = room

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        if (token_budget or 1000) > self.room:
            raise OutOfMemory("no room")
        return [Scored((0.0,) * len(task.texts), (None,) * len(task.texts)) for task in tasks]


def test_a_shard_that_runs_out_of_memory_begins_again_with_half_the_budget() -> None:
    task = Task(MESSAGES, ("a",))
    scored, halved = score_tasks([task], Cramped(300), lambda rows, tokens: None)
    assert halved == 250
    assert scored == [Scored((0.0,), (None,))]
    assert score_tasks([task], Cramped(1000), lambda rows, tokens: None)[1] is None
    with pytest.raises(RunError, match="out of memory"):
        score_tasks([task], Cramped(1), lambda rows, tokens: None)
