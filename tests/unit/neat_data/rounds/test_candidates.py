"""What becomes of candidates: which are dropped and why, which are kept, and the counts and figures of it all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.errors import InputError
from neat_data.models.reward_model import Scored
from neat_data.record import Record, Response, response_id
from neat_data.rounds.candidates import Candidate, Rules, from_table, sift, to_table
from neat_data.rounds.outcomes import Tally, joined, outcomes, tallies, tasks, total, waiting


def _candidate(record: Record, text: str, prompt: str = "negative", **fields) -> Candidate:
    own = {name: fields.pop(name) for name in ("cut", "turns_cut", "refused") if name in fields}
    made = Response(response_id(record.query_id, text), text, origin="sampled", polarity="negative", round=1, **fields)
    return Candidate(record.query_id, prompt, made, **own)


def test_a_response_that_teaches_nothing_or_is_there_already_is_dropped_with_its_reason(record_of):
    record = record_of("q", {"good": 1.0, "bad": -1.0}, [("good", "bad")])
    candidates = [
        _candidate(record, "new", tokens=(5, 6), finished=True),
        _candidate(record, "", tokens=(2,), finished=True),
        _candidate(record, "good", tokens=(5,), finished=True),
        _candidate(record, "new", tokens=(5, 6), finished=True),
        _candidate(record, "", refused="query_too_long"),
        _candidate(record, "long", tokens=(5, 6, 7), finished=False),
    ]
    known = {record.query_id: {r.response_id for r in record.responses}}
    reasons = [None, "empty", "duplicate", "duplicate", "query_too_long", None]
    assert sift(candidates, known, Rules()) == reasons
    assert sift(candidates, known, Rules(min_tokens=3))[0] == "too_short"
    assert sift(candidates, known, Rules(drop=("unfinished",)))[5] == "unfinished"
    assert sift([_candidate(record, "a b", cut=True, tokens=(1,))], {}, Rules(drop=("cut",))) == ["cut"]
    assert sift([_candidate(record, "I'm sorry, no.", tokens=(1,))], {}, Rules(drop=("refusal",))) == ["refusal"]


def test_without_tokens_words_are_counted(record_of):
    record = record_of("q", {"x": 1.0})
    assert sift([_candidate(record, "two words")], {}, Rules(min_tokens=3)) == ["too_short"]
    assert sift([_candidate(record, "three short words")], {}, Rules(min_tokens=3)) == [None]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"drop": ("ugly",)}, "drop ugly: choose among"),
        ({"keep": "reward <"}, "keep 'reward"),
        ({"keep": "reward < (SELECT max(n) FROM read_csv('x'))"}, "SELECT has no place"),
        ({"keep": "nonsense > 1"}, "columns: reward, chosen"),
        ({"keep": "reward"}, "neither true nor false"),
        ({"refusal": "("}, "no regular expression"),
    ],
)
def test_rules_that_cannot_be_read_are_refused_before_anything_is_loaded(rules, message):
    with pytest.raises(InputError, match=message):
        Rules(**rules)


@pytest.mark.parametrize("text", ["I'm sorry, I can't do that.", "As an AI, no.", "I cannot help with that."])
def test_refusals_are_recognised(text):
    assert Rules().refuses(text)
    assert not Rules().refuses("Sure, here you go.")


def _joined(record: Record, texts: dict[str, float | None], rules: Rules | None = None):
    rules = rules or Rules()
    candidates = [_candidate(record, text, tokens=(1, 2), finished=True) for text in texts]
    reasons = sift(candidates, {record.query_id: {r.response_id for r in record.responses}}, rules)
    groups = waiting(candidates, reasons, {record.query_id: record})
    rewards = [texts[t] for group in tasks(groups, candidates) for t in group.texts]
    scored = [Scored(tuple(rewards), tuple(None if r is not None else "response_too_long" for r in rewards))]
    outcomes_of = outcomes(candidates, reasons, groups, scored if groups else [], rules)
    rows = joined(candidates, outcomes_of, [record.query_id])
    return rows, tallies(candidates, outcomes_of, {record.query_id: record}, rules)


def test_joined_responses_are_ranked_and_every_candidate_is_counted(record_of):
    record = record_of("q", {"good": 1.0, "bad": -1.0}, [("good", "bad")])
    rows, tallies = _joined(record, {"a": -2.0, "b": 0.5, "good": None, "": None, "c": None})
    assert [(r.text, r.reward, r.round) for r in rows[0].responses] == [("b", 0.5, 1), ("a", -2.0, 1)]
    assert (rows[0].messages, rows[0].labels) == ((), ())
    figures = tallies["negative"].figures()
    assert (figures["asked"], figures["scored"], figures["kept"]) == (5, 2, 2)
    assert figures["dropped"] == {"duplicate": 1, "empty": 1, "response_too_long": 1}
    assert (figures["chosen"], figures["rejected"], figures["reward"]) == (1.0, -1.0, -0.75)
    assert (figures["below_rejected"], figures["compared"]) == (0.5, 2)


def test_keep_drops_by_reward_and_leaves_the_figures_of_all_that_was_scored(record_of):
    record = record_of("q", {"good": 1.0, "bad": -1.0}, [("good", "bad")])
    rows, tallies = _joined(record, {"a": -2.0, "b": 0.5}, Rules(keep="reward < rejected"))
    assert [r.text for r in rows[0].responses] == ["a"]
    figures = tallies["negative"].figures()
    assert (figures["scored"], figures["kept"], figures["dropped"], figures["reward"]) == (2, 1, {"not_kept": 1}, -0.75)


def test_keep_is_not_true_of_what_it_cannot_compare(record_of):
    rows, tallies = _joined(record_of("q", {"only": 1.0}), {"a": -2.0}, Rules(keep="reward < rejected"))
    assert rows == []
    assert tallies["negative"].figures()["below_rejected"] is None


def test_candidates_are_read_back_as_they_were_stored(record_of):
    record = record_of("q", {"x": 1.0})
    candidates = [_candidate(record, "a", tokens=(1, 2), seed=7, turns_cut=1), _candidate(record, "", refused="r")]
    assert from_table(to_table(candidates)) == candidates


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.integers(1, 5))
def test_tallies_of_shards_add_up_to_the_mean_and_interval_of_all(rewards, shards):
    parts = np.array_split(np.array(rewards), shards)
    stored = [
        {"p": Tally("negative", scored=len(p), reward=float(p.sum()), squares=float((p**2).sum())).to_dict()}
        for p in parts
    ]
    figures = total(stored)["p"].figures()
    half = 1.959963984540054 * np.std(rewards, ddof=1) / math.sqrt(len(rewards))
    assert figures["reward"] == pytest.approx(np.mean(rewards), abs=1e-9)
    assert figures["reward_high"] - figures["reward"] == pytest.approx(half, abs=1e-5)
