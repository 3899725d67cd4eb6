"""Small valid records and datasets, made by hand, for the tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.store.folder import DatasetFolder

SETTINGS = {"source": {"a.jsonl": "ab12"}, "reward_model": {"model": "given", "dtype": "float32"}}


def _record(row: int, rewards: tuple[float, ...] = (1.0, -0.5)) -> Record:
    messages = (Message("user", f"Question {row}?"),)
    query = query_id(messages)
    texts = [f"Answer {place} to {row}." for place in range(len(rewards))]
    ids = tuple(response_id(query, text) for text in texts)
    responses = tuple(
        Response(identifier, text, reward=reward) for identifier, text, reward in zip(ids, texts, rewards, strict=True)
    )
    label = Label("a.jsonl", None, "train", row, ids[:2])
    return Record(query, messages, responses, (label,), None).ranked()


def _reject(row: int) -> dict:
    place = {"name": "a.jsonl", "subset": None, "split": "train", "row": row}
    return {**place, "reason": "not_json", "detail": "line 1", "raw": "{"}


def _commit(folder: DatasetFolder, number: int) -> None:
    """Shard `number`: four records, and in odd shards one reject."""
    first = number * 5
    rejects = [_reject(first + 4)] if number % 2 else []
    table = to_table([_record(row) for row in range(first, first + 4)])
    folder.record(0, folder.commit(0, number, table, rejects, {"source_rows": 4 + len(rejects)}))


def _write(path: Path, shards: int = 3) -> Path:
    with DatasetFolder.open(path, SETTINGS, versions={"pyarrow": "1"}) as folder:
        for number in sorted(set(range(shards)) - folder.done(0)):
            _commit(folder, number)
        folder.finish(0, {"source_rows": 4 * shards + shards // 2})
    return path


def _add_round(path: Path, records: list[Record], number: int = 0) -> None:
    """A round 1 made by hand: for each record one response of reward 5 and one of reward -5."""
    rows = []
    for record in records:
        texts = {f"Sampled {sign} {record.query_id}": reward for sign, reward in (("+", 5.0), ("-", -5.0))}
        added = tuple(
            Response(response_id(record.query_id, text), text, reward, origin="sampled", round=1)
            for text, reward in texts.items()
        )
        rows.append(Record(record.query_id, (), added))
    with DatasetFolder.open(path, SETTINGS, versions={}) as folder:
        shard = folder.commit(1, number, to_table(rows), [], {})
        folder.record(1, shard)
        folder.finish(1, {})


@pytest.fixture(scope="session")
def settings() -> dict:
    return SETTINGS


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Makes the record of a row: one query, a response a reward, a label over the first two."""
    return _record


@pytest.fixture(scope="session")
def commit() -> Callable[..., None]:
    """Commits and records shard n: rows 5n to 5n + 3, and in odd shards a reject of row 5n + 4."""
    return _commit


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    """Writes (or resumes) a finished dataset of `shards` shards, four records each."""
    return _write


@pytest.fixture(scope="session")
def add_round() -> Callable[..., None]:
    return _add_round


@pytest.fixture(scope="session")
def files() -> Callable[[Path], dict[str, bytes]]:
    """Every file under a folder with its content."""

    def read(root: Path) -> dict[str, bytes]:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    return read


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A finished dataset of three shards, twelve records and one reject."""
    return _write(tmp_path / "dataset")


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[list[Record]], Path]:
    """Writes records as they are, right or wrong, into a finished dataset of one shard, hashes and counts in order."""

    def write(records: list[Record]) -> Path:
        path = tmp_path / "stored"
        with DatasetFolder.open(path, SETTINGS, versions={}) as folder:
            labels = sum(len(record.labels) for record in records)
            folder.record(0, folder.commit(0, 0, to_table(records), [], {"source_rows": labels}))
            folder.finish(0, {"source_rows": labels})
        return path

    return write
