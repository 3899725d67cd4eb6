"""A dataset that is reviewed, and the server that people review it with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from neat_data.record import Message, Record, Response, query_id, response_id, to_table
from neat_data.review.journal import Journal
from neat_data.store.folder import DatasetFolder
from neat_data.store.reviews import Event

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)>{{ 7 * 7 }} \u202egnp\x07 &amp; **b**'


def reviewed(path: Path, records: int = 10, text: str = "") -> Path:
    """Records of one source response and two sampled under a negative prompt; `text` stands in front of the latter."""
    settings = {"reward_model": {"model": "tiny"}, "source": {}}
    with DatasetFolder.open(path, settings, versions={}) as folder:
        shard = folder.commit(0, 0, to_table([_record(n, text) for n in range(records)]), [], {"source_rows": 0})
        folder.record(0, shard)
        folder.finish(0, {"source_rows": 0})
    return path


def _record(row: int, text: str) -> Record:
    messages = (Message("user", f"Question {row}?"),)
    query = query_id(messages)
    sampled = Response("", "", origin="sampled", polarity="negative", model="policy")
    rewards = {f"{text}First answer to {row}.": -1.25, f"{text}Second answer to {row}.": -2.5}
    answers = [replace(sampled, response_id=response_id(query, t), text=t, reward=r) for t, r in rewards.items()]
    own = Response(response_id(query, "Source."), "Source.", reward=1.0)
    return Record(query, messages, (own, *answers)).ranked()


class Reviewer:
    """`neat-data review`, running; `address` is what it printed."""

    def __init__(self, dataset: Path, *options: str) -> None:
        command = [sys.executable, "-m", "neat_data", "review", str(dataset), *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        self.address = next((line.split()[1] for line in lines if line.startswith("open ")), "")
        if not self.address:
            raise AssertionError(self.process.communicate()[1])

    @property
    def root(self) -> str:
        return self.address.partition("/?")[0]


@contextmanager
def reviewing(dataset: Path, *options: str) -> Iterator[Reviewer]:
    """The server, killed in the end."""
    running = Reviewer(dataset, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def say(dataset: Path, rater: str, *events: Event) -> None:
    """Events of a rater, written as the page has them written."""
    journal = Journal(dataset, rater)
    for event in events:
        journal.append(event)
