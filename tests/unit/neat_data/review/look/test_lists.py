"""Lists of records: what they hold, by expression, words, cell and sort, over rounds, further scores and drops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neat_data
from neat_data.errors import InputError
from neat_data.review.look.filtering import filtered
from neat_data.review.look.index import Index, against, build, contradiction, disagreement
from neat_data.review.look.listing import Listing, RecordLists
from neat_data.review.look.record import page
from neat_data.store.dataset import PreferenceDataset
from tests.support.growing import add_round, add_scores, drop

REWARDS = {"aa": {"A1": 3.0, "A2": 1.0}, "bb": {"B1": 2.0, "B2": 1.5}, "cc": {"C1": 0.0, "C2": -4.0}, "dd": {"D": 5.0}}
ORDERS = {"aa": ("A1", "A2"), "bb": ("B2", "B1"), "cc": ("C1", "C2")}


@pytest.fixture
def grown(made_dataset: Callable[..., PreferenceDataset], record_of: Callable[..., Any]) -> PreferenceDataset:
    """Four records in two shards; a round under a negative prompt for two of them; a judge's scores; D is dropped."""
    records = [record_of(name, rewards, [ORDERS[name]] if name in ORDERS else []) for name, rewards in REWARDS.items()]
    made = made_dataset(records, shard=2)
    add_round(Path(made.path), {"bb": {"Näh, LOUDLY said": -1.0}, "cc": {"C1 said": 9.0}})
    scores = {"A1": 1.0, "A2": 3.0, "B1": 2.0, "B2": 2.0, "C1": 0.0, "C2": -3.0, "D": 1.0}
    add_scores(Path(made.path), "judge", {**scores, "Näh, LOUDLY said": 0.0, "C1 said": None})
    drop(Path(made.path), [record_of("dd", {"D": 5.0}).responses[0].response_id])
    return neat_data.open(made.path)


def _names(opened: PreferenceDataset, **asked: Any) -> list[str]:
    index = build(opened)
    ids = index.frame["query_id"][RecordLists(opened, index).of(Listing(**asked))]
    return [opened[query].messages[-1].content for query in ids]


def test_a_record_without_a_response_that_counts_is_in_no_list(grown: PreferenceDataset):
    assert _names(grown) == ["aa", "bb", "cc"]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"where": "gap < 0"}, ["bb"]),
        ({"where": "gap >= 2 AND turns = 1"}, ["aa", "cc"]),
        ({"where": "ARRAY_LENGTH(messages) > 1"}, []),
        ({"where": "ARRAY_LENGTH(messages) = 1 AND gap < 3"}, ["aa", "bb"]),
        ({"where": "gap IN (2, 4) AND ROUND(gap) > 3"}, ["cc"]),
        ({"where": "query_id IS NULL"}, []),
        ({"text": "loudly"}, ["bb"]),
        ({"text": "SAID"}, ["bb", "cc"]),
        ({"text": "said c1"}, ["cc"]),
        ({"text": '"c1 said"'}, ["cc"]),
        ({"text": '"said c1"'}, []),
        ({"text": "NÄH,"}, ["bb"]),
        ({"text": "aa"}, ["aa"]),
        ({"text": "dd"}, []),
        ({"text": "said", "where": "gap > 0"}, ["cc"]),
        ({"polarity": "negative", "quarter": 1}, ["bb"]),
        ({"polarity": "negative", "quarter": 4}, ["cc"]),
        ({"polarity": "positive", "quarter": 4}, []),
        ({"sort": "gap"}, ["cc", "aa", "bb"]),
        ({"sort": "gap", "order": "up"}, ["bb", "aa", "cc"]),
        ({"order": "up"}, ["cc", "bb", "aa"]),
        ({"sort": "reward_best"}, ["cc", "aa", "bb"]),
        ({"sort": "spread"}, ["cc", "bb", "aa"]),
        ({"sort": "length"}, ["bb", "cc", "aa"]),
        ({"sort": against("judge")}, ["aa", "bb", "cc"]),
    ],
)
def test_a_list_holds_what_its_address_says(grown: PreferenceDataset, asked: dict[str, Any], names: list[str]):
    assert _names(grown, **asked) == names


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"where": "gap >"}, "where"),
        ({"where": "nothing > 1"}, "no column 'nothing'"),
        ({"where": "gap"}, "neither true nor false"),
        ({"where": "gap > AVG(gap)"}, "no function of one record"),
        ({"where": "COUNT(*) > 1"}, "no function of one record"),
        ({"where": "ROUND(gap) = FIRST(gap)"}, "no function of one record"),
        ({"where": "LPAD(source, 1000000000, 'x') = 'y'"}, "no function of one record"),
        ({"where": "gap > (SELECT 1 FROM read_csv('/etc/passwd'))"}, "no place"),
        ({"where": "gap > 1 OR " * 200 + "gap > 1"}, "2,000 characters"),
        ({"text": "a b c d e f g h i"}, "9 words"),
        ({"text": "x" * 501}, "500 characters"),
        ({"sort": "text"}, "no such column"),
        ({"order": "sideways"}, "order is down or up"),
        ({"page": "0"}, "from 1"),
        ({"page": "-1"}, "a number"),
        ({"page": "9" * 30}, "a number"),
        ({"polarity": "bad", "quarter": "1"}, "polarity is one of"),
        ({"polarity": "positive"}, "comes with a quarter"),
        ({"polarity": "positive", "quarter": "5"}, "from 1 to 4"),
    ],
)
def test_an_address_that_cannot_be_is_told_in_a_line_or_two(
    grown: PreferenceDataset, query: dict[str, str], message: str
):
    lists = RecordLists(grown, build(grown))
    with pytest.raises(InputError, match=message) as told:
        lists.of(Listing.parse(query))
    assert str(told.value).count("\n") <= 1


def test_an_expression_that_takes_too_long_is_given_up(grown: PreferenceDataset):
    with pytest.raises(InputError, match="more than 0 seconds"):
        filtered(grown, build(grown), "ARRAY_LENGTH(messages) > 1", seconds=0)


def test_an_address_says_what_it_was_made_of():
    from urllib.parse import parse_qsl

    listing = Listing("gap < 0", 'a "b c"', "negative", 2, "gap", "up", 7)
    assert Listing.parse(dict(parse_qsl(listing.query(page=7)))) == listing
    assert Listing.parse(dict(parse_qsl(listing.query()))).page == 1
    assert Listing().query() == ""


def test_quarters_hold_as_many_responses_each_and_none_is_lost(grown: PreferenceDataset):
    cells = build(grown).cells
    assert cells.counts.sum() == grown.scan().collect().height
    assert cells.counts.sum(axis=0).tolist() == [2, 2, 2, 2]
    assert cells.counts.sum(axis=1).tolist() == [6, 0, 2]
    assert cells.edges == (-0.25, 1.25, 2.25)


def test_places_lead_to_the_stored_query(grown: PreferenceDataset):
    index = build(grown)
    for row, query in enumerate(index.frame["query_id"]):
        shard, place = index.shard_of(row)
        assert grown.stored(shard)[0]["query_id"][place].as_py() == query
        assert index.row_of(query) == row
    assert index.row_of("0" * 32) is None


def test_a_page_shows_every_model_and_what_was_dropped(made_dataset: Any, record_of: Any):
    made = made_dataset([record_of("q", {"best": 2.0, "worst": 1.0}, [("worst", "best")])])
    add_scores(Path(made.path), "judge", {"best": 7.0, "worst": None})
    drop(Path(made.path), [record_of("q", {"worst": 1.0}).responses[0].response_id])
    opened = neat_data.open(made.path)
    best, worst = page(opened, build(opened), 0, None).shown
    assert best.rewards == (("reward", "2.00"), ("judge", "7.00"))
    assert worst.rewards == (("reward", "1.00"), ("judge", "–"))
    assert (best.dropped, worst.dropped) == (False, True)
    assert best.said == ("rejected in a.jsonl row 0",)


def test_an_empty_dataset_has_an_empty_index(made_dataset: Any):
    opened = made_dataset([])
    index: Index = build(opened)
    assert len(index) == 0
    assert len(RecordLists(opened, index).of(Listing(text="word", where="gap > 1", sort="gap"))) == 0


def test_disagreement_is_the_widest_distance_between_two_models():
    one, two = np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.5, np.nan, -1.0, np.nan])
    assert disagreement([one, two], np.array([3, 1]))[0] == 3.0
    assert np.isnan(disagreement([one, two], np.array([3, 1]))[1])


def test_contradiction_compares_the_own_best_with_the_own_worst():
    own, other = np.array([2.0, 1.0, -1.0, 4.0]), np.array([-1.0, np.nan, 1.0, 0.0])
    assert contradiction(own, other, np.array([3, 1]))[0] == 5.0  # 3 apart, where the other says -2
    assert np.isnan(contradiction(own, other, np.array([3, 1]))[1])
