"""Real data: every row is a row or a reject, and the oddities found are those that were counted before."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from neat_data import dialogue
from neat_data.record import query_id
from neat_data.sources import Reject, Row, Source, open_source

# (different queries, one blank response or two, equal responses), counted with a strict split of each side.
ODDITIES = {
    "hh-rlhf/harmless-base.test": (2_312, 5, 4 + 0, 0),
    "hh-rlhf/helpful-base.test": (2_354, 9, 0 + 4, 2),
    "hh-rlhf-single-turn/helpful.*": (12_000, 25, 0 + 9, 3),
    "hh-rlhf-single-turn/harmless.*": (12_000, 27, 15 + 2, 0),
}


def outcomes(source: Source) -> Counter[str]:
    return Counter(row.reason if isinstance(row, Reject) else "row" for row in source.rows())


@pytest.mark.parametrize("name", ODDITIES)
def test_hh_rows_are_refused_for_the_oddities_counted_and_for_nothing_else(shared_data: Path, name: str) -> None:
    rows, different, blank, equal = ODDITIES[name]
    counts = outcomes(open_source(str(shared_data / f"{name}.jsonl.gz")))
    expected = {"queries_differ": different, "empty_response": blank, "identical_responses": equal}
    assert counts - Counter(row=rows) == Counter(expected)
    assert counts["row"] == rows - different - blank - equal


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("ranked/oasst_zh.ranked.json.gz", "instruction", {"row": 772, "identical_responses": 3}),
        ("trl/dpo_en.sharegpt.json.gz", "sharegpt", {"row": 300}),
        ("trl/dpo_messages.jsonl", "messages", {"row": 10}),
        ("trl/kto_en.messages.json.gz", "labelled-messages", {"row": 300}),
    ],
)
def test_other_shapes_are_recognised_and_read(
    shared_data: Path, name: str, shape: str, expected: dict[str, int]
) -> None:
    source = open_source(str(shared_data / name))
    assert source.format == shape
    assert outcomes(source) == expected


def test_ranked_rows_are_best_first_with_what_was_left_out_noted(shared_data: Path) -> None:
    path = shared_data / "ranked" / "oasst_zh.ranked.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        items = json.load(stream)
    for item, row in zip(items, open_source(str(path)).rows(), strict=True):
        texts = [text.strip() for text in item["output"]]
        if isinstance(row, Reject):
            assert len(set(texts)) == 1
            continue
        assert [answer.text for answer in row.answers] == list(dict.fromkeys(text for text in texts if text))
        assert row.order == tuple(range(len(row.answers)))
        assert len(row.meta.get("left_out", ())) == len(texts) - len(row.answers)


def test_system_turns_of_real_pairs_are_kept(shared_data: Path) -> None:
    rows = list(open_source(str(shared_data / "trl" / "dpo_en.sharegpt.json.gz")).rows())
    assert sum(isinstance(row, Row) and row.messages[0].role == "system" for row in rows) == 80


def test_every_hh_text_is_rendered_again_byte_for_byte(shared_data: Path) -> None:
    texts = 0
    for path in shared_data.glob("hh-rlhf*/*.gz"):
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                for text in json.loads(line).values():
                    assert dialogue.render(dialogue.parse(text)) == text
                    texts += 1
    assert texts == 2 * (2_312 + 2_354 + 24_000)


def test_single_turn_rows_repeat_queries_as_counted(shared_data: Path) -> None:
    files = [
        f"hh-rlhf-single-turn/{kind}.train_{part}.jsonl.gz"
        for kind in ("helpful", "harmless")
        for part in ("gt", "w2s")
    ]
    queries: Counter[str] = Counter()
    for name in files:
        with gzip.open(shared_data / name, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                turns = dialogue.messages(dialogue.parse(json.loads(line)["chosen"]))
                queries[query_id(turns[:-1])] += 1
    assert (queries.total(), len(queries), max(queries.values())) == (16_000, 15_721, 11)


def test_a_folder_of_many_shapes_is_read_file_by_file(shared_data: Path) -> None:
    source = open_source(str(shared_data / "trl"))
    assert source.format == "sharegpt+messages+labelled-messages"
    assert outcomes(source) == {"row": 610}
    assert {row.place.name for row in source.rows()} == set(source.fingerprint["files"])
