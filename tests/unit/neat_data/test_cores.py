import os

import pytest

from neat_data.cores import threads_each


def test_processes_share_the_cores_that_they_may_run_on_not_those_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda of: {3, 5, 7, 9}, raising=False)
    assert [threads_each(processes) for processes in (1, 2, 3, 9)] == [4, 2, 1, 1]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads_each(16) == 4
