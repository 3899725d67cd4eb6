"""The plan: rows become records, repeats are folded into the first, nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neat_data.errors import InputError
from neat_data.record import Message, Record, to_table
from neat_data.scoring import plan as planning
from neat_data.scoring.plan import Plan, excluding, files_a_shard, make_plan, merge, repeated
from neat_data.scoring.plan import planned as read_plan
from neat_data.scoring.unscored import record_of, unscored
from neat_data.sources.row import Place, Reject, Row, SourceAnswer
from neat_data.store.shard import DamagedShard


def row(number: int, question: str, *texts: str, meta: dict[str, object] | None = None) -> Row:
    return Row(
        Place("rows.jsonl", None, "train", number),
        (Message("user", question),),
        tuple(SourceAnswer(text) for text in texts),
        tuple(range(len(texts))),
        None,
        meta or {},
        "raw",
    )


def reject(number: int) -> Reject:
    return Reject(Place("rows.jsonl", None, "train", number), "not_json", "", b"\xff")


def planned(rows: list[Row | Reject], folder: Path, shard_rows: int | None) -> Plan:
    return make_plan(lambda: iter(rows), folder, {"rows": "f"}, shard_rows=shard_rows)


def all_records(plan: Plan) -> list[Record]:
    return [record for shard in range(plan.shards) for record in plan.records(shard)]


def test_a_repeated_query_is_folded_into_the_first_wherever_it_stands(tmp_path: Path) -> None:
    rows = [row(0, "a", "1", "2"), row(1, "b", "1", "2"), row(2, "c", "1", "2"), row(3, "a", "2", "3"), reject(4)]
    plan = planned(rows, tmp_path, shard_rows=2)

    assert plan.shards == 3
    assert plan.repeated_rows == 1
    assert [[r.messages[0].content for r in plan.records(shard)] for shard in range(3)] == [["a", "b"], ["c"], []]
    first = plan.records(0)[0]
    assert [response.text for response in first.responses] == ["1", "2", "3"]
    assert [label.row for label in first.labels] == [0, 3]
    one, two, three = (response.response_id for response in first.responses)
    assert [label.order for label in first.labels] == [(one, two), (two, three)]
    assert [r.place.row for shard in range(3) for r in plan.rejects(shard)] == [4]
    assert plan.rejects(2)[0].raw == b"\xff"


@given(st.lists(st.integers(0, 5) | st.none(), max_size=40), st.integers(1, 7))
def test_every_row_is_in_a_label_or_rejected_and_every_query_in_one_record(
    tmp_path_factory: pytest.TempPathFactory, queries: list[int | None], shard_rows: int
) -> None:
    rows = [reject(n) if q is None else row(n, f"question {q}", f"answer {n % 3}") for n, q in enumerate(queries)]
    plan = planned(rows, tmp_path_factory.mktemp("plan"), shard_rows)
    records = all_records(plan)

    labelled = [label.row for record in records for label in record.labels]
    rejected = [r.place.row for shard in range(plan.shards) for r in plan.rejects(shard)]
    assert sorted(labelled + rejected) == list(range(len(queries)))
    asked = [record.messages[0].content for record in records]
    assert asked == list(dict.fromkeys(f"question {q}" for q in queries if q is not None))
    assert sum(plan.source_rows(shard) for shard in range(plan.shards)) == len(queries)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=60))
def test_repeats_agree_with_a_dictionary(pairs: list[tuple[int, int]]) -> None:
    seen: dict[tuple[int, int], int] = {}
    expected = []
    for number, pair in enumerate(pairs):
        if pair != (0, 0) and seen.setdefault(pair, number) != number:
            expected.append([number, seen[pair]])
    ids = np.array(pairs, np.uint64).reshape(-1, 2)
    assert repeated(ids).tolist() == expected
    assert repeated(ids, at_once=3).tolist() == expected


def test_a_whole_plan_is_taken_up_and_another_source_makes_it_anew(tmp_path: Path) -> None:
    plan = planned([row(0, "a", "1")], tmp_path, 2)

    def unread() -> Iterator[Row]:
        raise AssertionError("the source was read again")

    assert make_plan(unread, tmp_path, {"rows": "f"}, shard_rows=2) == plan
    other = make_plan(lambda: iter([row(0, "b", "1"), row(1, "c", "1")]), tmp_path, {"rows": "g"}, shard_rows=2)
    assert len(other.records(0)) == 2


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("repeats", lambda plan: plan.repeated_rows),
        ("rows-00000", lambda plan: plan.records(0)),
        ("rejects-00000", lambda plan: plan.rejects(0)),
    ],
)
def test_a_file_of_the_plan_that_holds_another_ones_columns_is_named(
    tmp_path: Path, name: str, read: Callable[[Plan], object]
) -> None:
    plan = planned([row(0, "a", "1"), reject(1)], tmp_path, 2)
    other = "repeats" if name != "repeats" else "rows-00000"
    (plan.folder / f"{name}.arrow").write_bytes((plan.folder / f"{other}.arrow").read_bytes())
    with pytest.raises(DamagedShard, match=name):
        read(plan)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, None) for key in ("rows", "usable", "contradicted", "file_rows", "shard_rows")),
        *((key, 0) for key in ("file_rows", "shard_rows")),
    ],
)
def test_a_plan_whose_counts_are_none_is_refused_by_name(tmp_path: Path, key: str, value: int | None) -> None:
    plan = planned([row(0, "a", "1")], tmp_path, 2)
    file = plan.folder / "plan.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(InputError, match=r"plan\.json"):
        read_plan(tmp_path)


def test_an_unfinished_plan_is_made_anew(tmp_path: Path) -> None:
    def breaks_off() -> Iterator[Row]:
        yield row(0, "a", "1")
        yield row(1, "b", "1")
        raise OSError("the file is cut")

    with pytest.raises(OSError, match="cut"):
        make_plan(breaks_off, tmp_path, {"rows": "f"}, shard_rows=1)
    plan = planned([row(0, "a", "1")], tmp_path, 1)
    assert plan.rows == 1
    assert len(all_records(plan)) == 1


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of two rows, and at most three shards."""
    monkeypatch.setattr(planning, "FILE_ROWS", 2)
    monkeypatch.setattr(planning, "MOST_SHARDS", 3)


@pytest.mark.parametrize(("count", "shard_rows"), [(0, 2), (1, 2), (6, 2), (7, 4), (12, 4), (13, 8), (25, 16)])
@pytest.mark.usefixtures("small_shards")
def test_shards_grow_with_the_number_of_rows(tmp_path: Path, count: int, shard_rows: int) -> None:
    """Every third row repeats the one before it, and every fifth is a reject."""
    rows = [row(n, f"q {n - (n % 3 == 2)}", f"a {n}") if n % 5 else reject(n) for n in range(count)]
    by_count = planned(rows, tmp_path / "count", None)
    said = planned(rows, tmp_path / "said", shard_rows)

    assert by_count.shard_rows == by_count.settings["shard_rows"] == shard_rows
    assert by_count.shards == said.shards <= 3
    for shard in range(said.shards):
        assert by_count.records(shard) == said.records(shard)
        assert by_count.rejects(shard) == said.rejects(shard)


@pytest.mark.usefixtures("small_shards")
def test_a_plan_keeps_its_shards_unless_others_are_asked_for(tmp_path: Path) -> None:
    rows = [row(n, f"q {n}", "a") for n in range(7)]
    assert planned(rows, tmp_path, 5).shard_rows == planned([], tmp_path, None).shard_rows == 5
    assert planned(rows, tmp_path, 4).shard_rows == 4


@pytest.mark.parametrize(
    ("rows", "row_bytes", "shard_rows"),
    [
        (2_048 * 512, 800, 512),
        (2_048 * 512 + 1, 800, 1_024),
        (5_000_000, 800, 4_096),
        (5_000_000, 50_000, 1_024),  # 51 MB
        (5_000_000, 200_000, 512),
    ],
)
def test_five_million_rows_make_some_thousand_shards_of_bounded_size(
    rows: int, row_bytes: int, shard_rows: int
) -> None:
    assert 512 * files_a_shard(-(-rows // 512), 512 * row_bytes) == shard_rows


def test_metadata_and_rewards_of_repeats_are_kept() -> None:
    first = record_of(row(0, "a", "1", "2", meta={"id": 1}))
    same = record_of(row(1, "a", "1", meta={"id": 1}))
    rewarded = row(2, "a", "x", meta={"id": 2})
    second = record_of(Row(**{**_fields(rewarded), "answers": (SourceAnswer("2", reward=0.5),), "order": (0,)}))

    merged = merge([first, same, second])
    assert json.loads(merged.meta or "") == {"id": 1, "repeats": [{"id": 2}]}
    assert [response.reward for response in merged.responses] == [None, 0.5]


def test_the_table_of_rows_is_that_of_their_records() -> None:
    rows = [
        row(0, "a", "1", "2", meta={"id": 1}),
        scored(1, "b", "x", 0.1),
        replace(row(2, "c", "y"), verdict=False),
        replace(row(3, "d"), messages=(Message("system", "s"), Message("user", "d"))),
    ]
    assert unscored(rows).equals(to_table(map(record_of, rows)))
    assert unscored([]).equals(to_table([]))


def test_excluded_queries_become_rejects() -> None:
    rows = [row(0, "keep", "1"), row(1, "leave", "1"), reject(2)]
    out = list(excluding(rows, lambda messages: "excluded_query_id" if messages[0].content == "leave" else None))
    assert [type(r) for r in out] == [Row, Reject, Reject]
    assert Counter(r.reason for r in out if isinstance(r, Reject)) == {"excluded_query_id": 1, "not_json": 1}


def _fields(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in Row.__slots__}


def scored(number: int, question: str, text: str, reward: float) -> Row:
    return Row(
        Place("rows.jsonl", None, "train", number),
        (Message("user", question),),
        (SourceAnswer(text, reward),),
        (),
        None,
        {},
        "raw",
    )


def test_rows_of_one_scored_answer_order_each_other_once_with_ties_left_out(tmp_path: Path) -> None:
    rows = [scored(0, "a", "x", 1.0), scored(1, "a", "y", 3.0), scored(2, "a", "z", 1.0), scored(3, "b", "x", 5.0)]
    first, alone = all_records(planned(rows, tmp_path, shard_rows=2))
    x, y, z = (response.response_id for response in first.responses)
    assert [label.order for label in first.labels] == [(), (), (y, x)]
    assert z not in first.labels[-1].order
    assert [label.order for label in alone.labels] == [()]


def test_a_plan_counts_contradictions_and_names_the_columns_that_nothing_reads(tmp_path: Path) -> None:
    against = replace(row(0, "a", "x", "y"), answers=(SourceAnswer("x", 1.0), SourceAnswer("y", 2.0)))
    rows = [against, row(1, "b", "x", "y", meta={"id": 1, "left_out": []}), row(2, "c", "x", "y", meta={"lang": "en"})]
    plan = planned(rows, tmp_path, shard_rows=2)
    assert (plan.contradicted, plan.meta) == (1, ("id", "lang"))
    assert planned(rows, tmp_path, shard_rows=2) == plan
