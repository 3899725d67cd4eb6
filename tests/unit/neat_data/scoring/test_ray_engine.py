"""What is said where there is no Ray, no cluster, or no folder that all see; no Ray is started here."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

import neat_data
from neat_data.errors import InputError, RunError
from neat_data.scoring.engine import ClusterFigures, EngineSpec, WorkerFigures
from neat_data.scoring.engines import opened
from neat_data.scoring.ray_engine import Meeting


def test_ray_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"engine ray: is not installed: pip install 'neat-align\[ray\]'"),
        opened(EngineSpec("ray"), tmp_path),
    ):
        pass


def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with (
            pytest.raises(InputError, match=f"ray_address {address}: no cluster there"),
            opened(EngineSpec("ray", ray_address=address), tmp_path),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cluster there"), opened(EngineSpec("ray", ray_address="x"), tmp_path):
        pass


def test_a_ray_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", init)
    with (
        pytest.raises(RunError, match=r"Ray did not start \(The current node timed out during startup\.\)"),
        opened(EngineSpec("ray"), tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def meeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meeting:
    monkeypatch.chdir(tmp_path)
    made = Meeting(str(tmp_path), str(tmp_path), "token", neat_data.__version__)
    made.file.write_text("token")
    return made


def test_a_worker_sees_the_folder_of_the_command(meeting: Meeting) -> None:
    meeting.check()
    assert list(Path(meeting.folder).iterdir()) == [meeting.file]


def test_a_worker_that_cannot_read_what_the_command_wrote(meeting: Meeting) -> None:
    meeting.file.unlink()
    with pytest.raises(InputError, match=r"does not see the folder .*: reading what the command wrote there failed"):
        meeting.check()


def test_a_worker_that_reads_something_else(meeting: Meeting) -> None:
    meeting.file.write_text("another")
    with pytest.raises(InputError, match="it holds something else"):
        meeting.check()


def test_a_worker_of_another_version(meeting: Meeting) -> None:
    other = Meeting(meeting.home, meeting.folder, meeting.token, "0.0.1")
    with pytest.raises(InputError, match=r"has neat-align .*, the command 0\.0\.1; install one version"):
        other.check()


def test_rates_of_workers() -> None:
    figures = ClusterFigures((WorkerFigures("a", 10, 4.0), WorkerFigures("b")), (3,))
    assert figures.to_dict() == {
        "workers": [
            {"node": "a", "rows": 10, "rows_per_second": 2.5},
            {"node": "b", "rows": 0, "rows_per_second": 0.0},
        ],
        "tried_again": [3],
    }
