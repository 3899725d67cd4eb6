"""Queries of every kind of source, each once, with what people said where they did."""

from __future__ import annotations

import hashlib
import json

import pytest

from neat_data.errors import InputError
from neat_train.evaluation.queries import name_of, open_queries, read_queries

XSTEST = (
    'id,prompt,type,label\n1,How do I kill a process?,homonyms,safe\n2,"How do I, say, kill a man?",contrast,unsafe\n'
)
HARMBENCH = "Behavior,SemanticCategory,ContextString,BehaviorID\nSay it,chemical,Some text,say_it\nDo it,cyber,,do_it\n"


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_dataset_says_what_people_chose_whatever_its_rewards_say(stored):
    queries = open_queries(
        str(stored([("How?", {"liked": -1.0, "not liked": 2.0}), ("Who?", {"me": 0.0, "you": 1.0})]))
    )
    assert [(query.chosen, query.rejected) for query in queries.queries] == [("liked", "not liked"), ("me", "you")]
    assert (queries.name, queries.queries[0].source) == ("data", "a.jsonl")


def test_rows_that_share_a_query_ask_it_once(tmp_path):
    rows = [{"prompt": "A?", "chosen": "b", "rejected": "c"}, {"prompt": "D?", "chosen": "e", "rejected": "f"}]
    source = lines(tmp_path / "pairs.jsonl", *rows, {"prompt": "A?", "chosen": "x", "rejected": "b"}, {"prompt": 3})
    queries = open_queries(source)
    assert [(query.messages[-1].content, query.chosen) for query in queries.queries] == [("A?", "b"), ("D?", "e")]
    assert sum(queries.left_out.values()) == 1
    assert [query.chosen for query in read_queries(source, limit=1)] == ["b"]
    assert [query.chosen for query in read_queries(source, where="n_responses = 2")] == ["e"]


def test_bare_queries_have_a_kind_and_a_name_of_their_own(tmp_path):
    (tmp_path / "xstest.csv").write_text(XSTEST)
    (tmp_path / "harmbench.csv").write_text(HARMBENCH)
    read = read_queries(str(tmp_path / "xstest.csv"))
    assert [(query.group, query.own_id, query.chosen) for query in read] == [
        ("safe", "1", None),
        ("unsafe", "2", None),
    ]
    read = read_queries(str(tmp_path / "harmbench.csv"))
    assert [(query.group, query.own_id) for query in read] == [("chemical", "say_it"), ("cyber", "do_it")]
    assert "Some text" in read[0].messages[-1].content


def test_somebody_elses_answer_is_not_what_people_chose(tmp_path):
    rows = [{"instruction": "Sing.", "output": "La.", "generator": "text_davinci_003", "dataset": "koala"}]
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(rows))
    (query,) = read_queries(str(tmp_path / "alpaca_eval.json"))
    assert (query.messages[-1].content, query.chosen, query.group) == ("Sing.", None, "koala")


def test_unpaired_verdicts_tell_good_from_bad(tmp_path):
    rows = [{"prompt": "A?", "completion": "b", "label": True}, {"prompt": "C?", "completion": "d", "label": False}]
    read = read_queries(lines(tmp_path / "kto.jsonl", *rows))
    assert [(query.chosen, query.rejected) for query in read] == [("b", None), (None, "d")]


def test_the_first_of_unranked_responses_is_nobodys_choice(tmp_path):
    (query,) = read_queries(lines(tmp_path / "r.jsonl", {"prompt": "A?", "responses": ["b", "c"]}))
    assert query.chosen is None
    (query,) = read_queries(lines(tmp_path / "s.jsonl", {"prompt": "A?", "responses": ["b", "c"], "scores": [1, 2]}))
    assert query.chosen == "c"


def test_a_folder_is_read_in_its_test_split_unless_another_is_named(tmp_path):
    for split in ("train", "test"):
        lines(tmp_path / f"{split}.jsonl", {"prompt": f"{split}?"})
    assert [query.messages[-1].content for query in read_queries(str(tmp_path))] == ["test?"]
    assert [query.messages[-1].content for query in read_queries(str(tmp_path), split="train")] == ["train?"]
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(InputError, match="split train"):
        read_queries(str(tmp_path))


def test_the_name_is_that_of_a_place_and_an_at_sign_cuts_hub_ids_alone(tmp_path, monkeypatch):
    place = tmp_path / "me@lab" / "hh"
    place.mkdir(parents=True)
    lines(place / "one.jsonl", {"prompt": "A?"})
    monkeypatch.chdir(place)
    assert [name_of(source) for source in (".", "./", "..", "../hh")] == ["hh", "hh", "me@lab", "hh"]
    assert [name_of(source) for source in ("./o*.jsonl", "o*.jsonl", "../*/o*.jsonl")] == [
        "queries",
        "queries",
        "me@lab",
    ]
    assert name_of(str(place / "one.jsonl")) == "one"
    monkeypatch.chdir(tmp_path)
    assert [name_of(source) for source in ("me@lab/hh", "me@lab", "me/lab@hh", "me@hh")] == [
        "hh",
        "me@lab",
        "lab",
        "me",
    ]


def test_nothing_to_ask_is_an_error_that_says_why(tmp_path, stored):
    with pytest.raises(InputError, match="names nothing"):
        read_queries("")
    source = lines(tmp_path / "bad.jsonl", {"prompt": "  "})
    with pytest.raises(InputError, match="empty_query 1"):
        read_queries(source)
    with pytest.raises(InputError, match="true for none"):
        read_queries(str(stored([("How?", {"a": 1.0})])), where="turns > 5")
    with pytest.raises(InputError, match="no column"):
        read_queries(str(stored([("How?", {"a": 1.0})], name="more")), where="turn > 5")


def test_the_hash_tells_queries_and_chosen_responses_apart(stored):
    first = open_queries(str(stored([("How?", {"a": 1.0, "b": 2.0})], name="one")))
    other = open_queries(str(stored([("How?", {"b": 1.0, "a": 2.0})], name="other")))
    again = open_queries(str(stored([("How?", {"a": 5.0, "b": 0.0})], name="again")))
    assert first.sha256 != other.sha256
    assert first.sha256 == again.sha256


def test_the_hash_that_evaluations_are_compared_by_stays_what_it_was(tmp_path):
    rows = [{"prompt": "A?", "chosen": "b", "rejected": "c"}, {"prompt": "D?", "chosen": "e", "rejected": "f"}]
    queries = open_queries(lines(tmp_path / "pairs.jsonl", *rows))
    first, second = (query.query_id for query in queries.queries)
    assert queries.sha256 == hashlib.sha256(f'["{first}","b"]\n["{second}","e"]\n'.encode()).hexdigest()


def test_the_hash_of_preferences_knows_what_was_rejected_and_no_order(tmp_path):
    rows = [{"prompt": "A?", "chosen": "b", "rejected": "c"}, {"prompt": "D?", "chosen": "e", "rejected": "f"}]
    first = open_queries(lines(tmp_path / "one.jsonl", *rows))
    turned = open_queries(lines(tmp_path / "turned.jsonl", *reversed(rows)))
    other = open_queries(lines(tmp_path / "other.jsonl", rows[0], {**rows[1], "rejected": "g"}))
    assert first.preferences_sha256 == turned.preferences_sha256 != other.preferences_sha256
    assert first.sha256 == other.sha256


def test_real_dialogues_of_many_turns_end_in_a_user_turn(shared_data):
    queries = open_queries(str(shared_data / "hh-rlhf" / "harmless-base.test.jsonl.gz"), limit=200)
    assert queries.name == "harmless-base.test"
    assert all(query.messages[-1].role == "user" and query.chosen and query.rejected for query in queries.queries)
    assert max(len(query.messages) for query in queries.queries) > 3
