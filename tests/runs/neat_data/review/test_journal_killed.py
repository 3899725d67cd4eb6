"""A writer that is killed in the middle of a burst: what it acknowledged is there, and nothing is there twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neat_data.review.journal import Journal
from neat_data.store.reviews import Event

ROOT = Path(__file__).resolve().parents[4]
EVENTS = 500
# Writes events and says so; `tear` leaves half of the next line behind, as a kill in the middle of a write does.
BURST = """
import os, signal, sys
from pathlib import Path
from neat_data.review.journal import Journal
from neat_data.store.reviews import Event

journal, last = Journal(Path(sys.argv[1]), "ann"), int(sys.argv[2])
for number in range(int(sys.argv[3])):
    if number == last:
        with journal.path.open("ab") as file:
            file.write(Event(str(number), f"r{number}", "drop").to_line()[:20])
        os.kill(os.getpid(), signal.SIGKILL)
    journal.append(Event(str(number), f"r{number}", "drop"))
    print(number, flush=True)
"""


def _burst(folder: Path, last: int) -> list[str]:
    """What a writer that is killed after `last` events acknowledged."""
    command = [sys.executable, "-c", BURST, str(folder), str(last), str(EVENTS)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    return ended.stdout.split()


@pytest.mark.parametrize("last", [0, 1, 250, 499])
def test_every_acknowledged_event_survives_a_kill_and_a_resend(tmp_path: Path, last: int):
    (tmp_path / "reviews").mkdir()
    acknowledged = _burst(tmp_path, last)
    assert [event.event for event in Journal(tmp_path, "ann").events()] == acknowledged
    journal = Journal(tmp_path, "ann")
    for number in range(EVENTS):  # the page sends everything again that it is not sure of
        journal.append(Event(str(number), f"r{number}", "drop"))
    assert [event.event for event in Journal(tmp_path, "ann").events()] == [str(n) for n in range(EVENTS)]


def test_a_kill_from_outside_loses_nothing(tmp_path: Path):
    command = [sys.executable, "-c", BURST, str(tmp_path), "-1", str(EVENTS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(100)]
        process.kill()
        acknowledged += process.stdout.read().split()
    kept = [event.event for event in Journal(tmp_path, "ann").events()]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) - len(acknowledged) <= 1  # one may be on the disk that was not acknowledged
    assert len(set(kept)) == len(kept)
