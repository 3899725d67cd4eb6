"""Review events: what counts of a rater's file, whom it leaves out, and what may name a rater."""

from __future__ import annotations

import pytest

from neat_data.errors import InputError
from neat_data.store.reviews import Event, dropped, rater_name, read_events, standing

KEEP, DROP = Event("1", "a", "keep"), Event("2", "a", "drop")


def test_an_event_comes_back_from_its_line():
    event = Event("1", "a", "drop", scale=2, labels=("rude", "häßlich"), note="two\nlines", time="2026-01-01T00:00:00Z")
    assert read_events(event.to_line(), "ann.jsonl").events == (event,)
    assert event.to_line().count(b"\n") == 1


def test_the_latest_verdict_that_was_not_taken_back_stands():
    assert standing([KEEP, DROP])["a"] == DROP
    assert standing([KEEP, DROP, Event("3", "a", undoes="2")])["a"] == KEEP
    assert standing([KEEP, Event("3", "a", undoes="1")]) == {}
    assert standing([KEEP, Event("3", "a", undoes="1"), DROP])["a"] == DROP


def test_an_event_without_an_id_is_not_undone_with_another():
    assert standing([Event("", "a", "drop"), KEEP, Event("3", "a", undoes="1")])["a"].verdict == "drop"


def test_verdicts_stand_in_the_order_in_which_they_were_given():
    assert list(standing([KEEP, Event("2", "b", "keep"), Event("3", "a", "drop")])) == ["b", "a"]


def test_what_the_prompt_did_not_ask_for_is_left_out_as_well():
    assert dropped([{"a": Event("1", "a", "off_prompt")}], "any") == {"a"}


@pytest.mark.parametrize(("verdicts", "by"), [("kd", "any"), ("kdd", "majority"), ("dd", "all"), ("d", "majority")])
def test_enough_raters_leave_a_response_out(verdicts: str, by):
    assert dropped([{"a": KEEP if verdict == "k" else DROP} for verdict in verdicts], by) == {"a"}


@pytest.mark.parametrize(("verdicts", "by"), [("k", "any"), ("kd", "majority"), ("ddk", "all")])
def test_too_few_raters_do_not(verdicts: str, by):
    assert dropped([{"a": KEEP if verdict == "k" else DROP} for verdict in verdicts], by) == frozenset()


def test_a_last_line_that_was_cut_does_not_count():
    content = KEEP.to_line() + DROP.to_line()[:-9]
    journal = read_events(content, "ann.jsonl")
    assert (journal.events, journal.torn, journal.whole) == ((KEEP,), True, len(KEEP.to_line()))


def test_a_whole_last_line_without_its_newline_counts():
    journal = read_events(KEEP.to_line() + DROP.to_line()[:-1], "ann.jsonl")
    assert (journal.events, journal.torn) == ((KEEP, DROP), False)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b'{"verdict": "keep"}',
        b'{"response_id": "a"}',
        b'{"response_id": "a", "verdict": "burn"}',
        b'{"response_id": "a", "verdict": "keep", "undoes": "1"}',
        b"\xff",
    ],
)
def test_a_line_that_is_no_event_is_named(line: bytes):
    with pytest.raises(InputError, match=r"^ann\.jsonl, line 2: no review event"):
        read_events(KEEP.to_line() + line + b"\n", "ann.jsonl")


def test_a_raters_name_is_spelled_one_way():
    assert rater_name(" Ju\u0308rgen ") == "J\u00fcrgen"
    assert rater_name("ann-1.b") == "ann-1.b"


@pytest.mark.parametrize("name", ["", "..", "../ann", "a/b", "a\\b", ".ann", "a b", "a\0", "x" * 65, "-a", "漢" * 60])
def test_what_cannot_name_a_file_names_no_rater(name: str):
    with pytest.raises(InputError, match="cannot name a rater"):
        rater_name(name)
