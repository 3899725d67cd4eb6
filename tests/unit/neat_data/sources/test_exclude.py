"""What counts as the same query: its id, n words in a row, or, for a short one, all of its words."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from neat_data.errors import InputError
from neat_data.record import SCHEMA, Message, Messages, Record, query_id, to_table
from neat_data.sources.exclude import Exclusion

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def user(text: str) -> Messages:
    return (Message("user", text),)


def source(path: Path, *queries: str) -> str:
    rows = [{"prompt": query, "chosen": "Yes.", "rejected": "No."} for query in queries]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def exclusion(tmp_path: Path) -> Exclusion:
    return Exclusion.load(
        [source(tmp_path / "test.jsonl", LONG, "How are you?", "你好，我想知道今天北京的天气怎么样啊", "???")]
    )


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (LONG, "excluded_query_id"),
        (f"So: {LONG.upper()}!", "excluded_ngram"),
        (LONG.removesuffix(" fourteen"), "excluded_ngram"),  # thirteen words
        (LONG.removesuffix(" thirteen fourteen"), None),  # twelve words, and no short query
        (LONG.replace("seven", "7"), None),  # six words before, seven after
        ("how ARE you", "excluded_ngram"),
        ("How are you today?", None),
        ("you are how", None),
        ("嗯。我想知道今天北京的天气怎么样啊？", "excluded_ngram"),
        ("???", "excluded_query_id"),
        ("!!!", None),  # no words at all
    ],
)
def test_a_query_is_excluded_by_id_by_thirteen_words_or_as_a_short_whole(
    exclusion: Exclusion, query: str, reason: str | None
) -> None:
    assert exclusion.reason(user(query)) == reason


def test_shared_system_turns_do_not_make_queries_alike(tmp_path: Path) -> None:
    system = {"role": "system", "content": LONG}
    rows = [{"prompt": [system, {"role": "user", "content": "Hello"}], "chosen": "a", "rejected": "b"}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    loaded = Exclusion.load([str(tmp_path / "a.jsonl")])
    assert loaded.reason((Message("system", LONG), Message("user", "Something else"))) is None
    assert loaded.reason((Message("system", LONG), Message("user", "hello!"))) == "excluded_ngram"


def test_any_earlier_turn_counts(exclusion: Exclusion) -> None:
    turns = (Message("user", "Hi"), Message("assistant", LONG), Message("user", "Go on"))
    assert exclusion.reason(turns) == "excluded_ngram"


def test_n_can_be_chosen(tmp_path: Path) -> None:
    loaded = Exclusion.load([source(tmp_path / "a.jsonl", "a b c d")], n=3)
    assert loaded.reason(user("x b c d")) == "excluded_ngram"
    assert loaded.reason(user("a b x d")) is None


def test_a_dataset_folder_excludes_its_own_queries(tmp_path: Path) -> None:
    folder = tmp_path / "scored"
    (folder / "round-0000").mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="no shard yet"):
        Exclusion.load([str(folder)])
    table = to_table([Record(query_id(user("Hello")), user("Hello"), ())])
    with pa.ipc.new_file(str(folder / "round-0000" / "00000.arrow"), SCHEMA) as writer:
        writer.write_table(table)
    loaded = Exclusion.load([str(folder)])
    assert loaded.reason(user("Hello")) == "excluded_query_id"
    assert loaded.reason(user("Goodbye")) is None


def test_the_fingerprint_depends_on_content_and_n_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one, two = source(tmp_path / "a.jsonl", "x"), source(tmp_path / "elsewhere" / "a.jsonl", "x")
    other = source(tmp_path / "b.jsonl", "y")
    first = Exclusion.load([one, other]).fingerprint
    assert first == Exclusion.load([other, two]).fingerprint
    assert first != Exclusion.load([one]).fingerprint
    assert first != Exclusion.load([one, other], n=8).fingerprint
    assert str(tmp_path) not in json.dumps(first)


@pytest.mark.slow  # 24,000 rows of real data; rows of our own are excluded above
def test_single_turn_files_share_the_queries_with_the_test_split_that_were_counted(shared_data: Path) -> None:
    test = Exclusion.load([str(shared_data / "hh-rlhf" / "harmless-base.test.jsonl.gz")])
    counts = []
    for part in ("train_gt", "train_w2s", "more"):
        other = Exclusion.load([str(shared_data / "hh-rlhf-single-turn" / f"harmless.{part}.jsonl.gz")])
        counts.append(len(test.query_ids & other.query_ids))
    # 19, 22 and 24 where rejected rows count too: all three files ask what one row with an empty response asks.
    assert sorted(counts) == [18, 21, 23]
