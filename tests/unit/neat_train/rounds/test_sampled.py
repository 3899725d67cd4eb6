"""Which of a record's samples training uses."""

from __future__ import annotations

from neat_data.record import Response
from neat_train.rounds.sampled import kept


def response(name, round=0, polarity=None, origin="sampled"):
    return Response(name, name, 0.0, origin if round else "source", polarity, round=round)


RESPONSES = (
    response("chosen"),
    response("rejected"),
    response("early no", 1, "negative"),
    response("early yes", 1, "positive"),
    response("plain", 1),
    response("given", 2, origin="given"),
    response("late no", 3, "negative"),
    response("late no, too", 3, "negative"),
)


def names(keep):
    return [r.response_id for r in kept(RESPONSES, keep, lambda r: r.round)]


def test_the_original_responses_and_the_newest_of_each_polarity_are_kept():
    assert names("newest") == ["chosen", "rejected", "early yes", "plain", "given", "late no", "late no, too"]


def test_all_may_be_kept():
    assert names("all") == [r.response_id for r in RESPONSES]


def test_age_is_what_the_caller_says():
    older = kept(RESPONSES, "newest", lambda r: -r.round)
    assert "early no" in [r.response_id for r in older]
    assert "late no" not in [r.response_id for r in older]
