"""What these tests train on: datasets scored by hand, and a policy so small that steps are quick."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.store.folder import DatasetFolder
from tests.support.forking import Forks
from tests.support.random_models import MODELS, random_model

Rewards = dict[str, float]


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Runs functions of test modules in processes of their own."""
    with Forks() as started:
        yield started


@pytest.fixture(scope="session")
def tiny_policy() -> Path:
    """The project's own policy: it answers in sentences."""
    return MODELS / "tiny-policy"


@pytest.fixture(scope="session")
def tiny_reward() -> Path:
    return random_model("tiny-reward")


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """`stored([("query", {"text": reward, …}), …], name="data")`: records in a dataset's folder, scored by hand."""

    def make(records: Sequence[tuple[str, Rewards]], name: str = "data") -> Path:
        return _store(tmp_path / name, records)

    return make


def _store(path: Path, records: Sequence[tuple[str, Rewards]]) -> Path:
    made = [_record(*record, row) for row, record in enumerate(records)]
    settings = {"reward_model": {"model": "given", "backend": "given"}}
    with DatasetFolder.open(path, settings, versions={}) as folder:
        folder.record(0, folder.commit(0, 0, to_table(made), [], {"source_rows": len(made)}))
        folder.finish(0, {"source_rows": len(made), "queries_cut": 0})
    return path


def _record(query: str, rewards: Rewards, row: int) -> Record:
    messages = (Message("user", query),)
    ids = {text: response_id(query_id(messages), text) for text in rewards}
    responses = tuple(Response(ids[text], text, reward=reward) for text, reward in rewards.items())
    label = Label("a.jsonl", None, "train", row, tuple(ids.values()), True if len(ids) == 1 else None)
    return Record(query_id(messages), messages, responses, (label,)).ranked()


@pytest.fixture(scope="session")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen records of one to four responses of very different lengths, some of equal reward."""
    words = [f"{word} " * 2 for word in "abcdefghijklmnopqr"]
    records = []
    for number in range(16):
        texts = [" ".join(words[number % 5 : number % 5 + 2 + 5 * k]) + f" {number}" for k in range(1 + number % 4)]
        rewards = {text: float((number * 7 + 3 * place) % 5) for place, text in enumerate(texts)}
        records.append((" ".join(words[: 2 + number]) + f" {number}?", rewards))
    return _store(tmp_path_factory.mktemp("ragged") / "data", records)
