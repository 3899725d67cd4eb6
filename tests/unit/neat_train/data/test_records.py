"""Random access to a dataset's records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import neat_data
from neat_data.errors import InputError
from neat_data.store.folder import DatasetFolder
from neat_train.data.records import Records
from tests.support.growing import add_round, drop


@pytest.fixture
def data(stored: Callable[..., Path]) -> Path:
    return stored([("a", {"good": 2.0, "bad": 1.0}), ("b", {"same": 1.0, "equal": 1.0}), ("c", {"lone": 0.0})])


def test_records_are_those_of_the_dataset(data: Path) -> None:
    records = Records.open(str(data))
    assert [records[query] for query in records.ids] == list(neat_data.open(str(data)).records())
    assert records.contrasts == {records.ids[0]}
    assert Records.open(str(data), where="gap_abs > 0.5").ids == records.ids[:1]
    assert Records.open(str(data), limit=2).ids == records.ids[:2]


def test_a_part_keeps_the_datasets_order(data: Path) -> None:
    records = Records.open(str(data))
    first, second, third = records.ids
    assert records.only([third, first]).ids == (first, third)
    assert records.without([second]).ids == (first, third)
    assert records.without([first]).contrasts == frozenset()


def test_what_reviewers_dropped_is_in_no_record_to_train_on(data: Path) -> None:
    best = next(neat_data.open(str(data)).records()).responses[0]
    drop(data, [best.response_id])
    records = Records.open(str(data))
    assert best not in [response for query in records.ids for response in records[query].responses]
    assert records.contrasts == frozenset()
    (data / "reviews" / "bob.jsonl").write_text(f'{{"response_id": "{best.response_id}", "verdict": "keep"}}\n')
    kept = Records.open(str(data), drop_by="all")
    assert kept[kept.ids[0]].responses[0] == best
    assert kept.identity() != records.identity()


def test_a_run_that_grows_its_dataset_sees_the_rounds_it_began_with(data: Path) -> None:
    begun = Records.open(str(data))
    add_round(data, {"a": {"new": 3.0}})
    with DatasetFolder.claim(data) as folder:
        folder.begin_round("online", {"seed": 1}, versions={})
    with pytest.raises(InputError, match="is not finished"):
        Records.open(str(data))
    same = Records.open(str(data), rounds=begun.identity()["rounds"])
    assert same.identity() == begun.identity()
    assert [same[query] for query in same.ids] == [begun[query] for query in begun.ids]
    grown = Records.open(str(data), rounds=2)
    assert [response.text for response in grown[grown.ids[0]].responses] == ["new", "good", "bad"]


def test_nothing_to_train_on_says_why(data: Path) -> None:
    with pytest.raises(InputError, match="true for no record"):
        Records.open(str(data), where="gap_abs > 100")
