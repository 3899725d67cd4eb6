"""An expansion that is killed and resumed leaves the same bytes as one that was left alone."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from neat_data.cli import app
from neat_data.store.verify import verify
from tests.support.killing import OUT, Killer, contents
from tests.support.random_models import random_model


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine records in three shards, scored by a function."""
    folder = tmp_path_factory.mktemp("scored")
    rows = [{"prompt": f"question {n}", "responses": ["yes", f"no {n}"], "scores": [1, 0]} for n in range(9)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "length.py").write_text(
        "def length(dialogues):\n    return [-len(d[-1]['content']) for d in dialogues]\n"
    )
    command = ["score", folder / "rows.jsonl", "--reward-model", f"{folder}/length.py:length", "--out", folder / "d"]
    app([*map(str, command), "--shard-rows", "3", "--quiet"], standalone_mode=False)
    return folder / "d"


def expanding(scored: Path) -> tuple[object, ...]:
    """A function that gave the rewards is named by who runs it again."""
    sampled = ("--policy", random_model("tiny-policy-plain"), "--max-new-tokens", 4, "--limit", 7, "--device", "cpu")
    return ("expand", OUT, *sampled, "--reward-model", f"{scored.parent / 'length.py'}:length")


@pytest.mark.slow
@pytest.mark.parametrize("stride", [31, 6])
def test_killed_between_steps_on_the_disk(scored: Path, tmp_path: Path, stride: int) -> None:
    command = expanding(scored)
    with Killer(*command) as killer:
        undisturbed = shutil.copytree(scored, tmp_path / "undisturbed")
        assert killer.run(undisturbed) == 0
        expected = contents(undisturbed)
        assert [name for name in expected if name.startswith("round-0001")] == [
            f"round-0001/0000{number}.arrow" for number in range(3)
        ]
        assert not any(name.startswith(".round/") for name in expected)
        assert verify(undisturbed).findings == []

        point, status = 0, -signal.SIGKILL
        killed = shutil.copytree(scored, tmp_path / "killed")  # lives through all of the kills
        while status == -signal.SIGKILL:
            point += stride
            status = killer.run(killed, point)
        assert status == 0
        assert point > 12
        assert contents(killed) == expected

        point, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:  # and fresh folders, each killed once
            point += 3 * stride - 1
            fresh = shutil.copytree(scored, tmp_path / f"fresh-{point}")
            status = killer.run(fresh, point)
            assert killer.run(fresh) == 0
            assert contents(fresh) == expected
        assert status == 0
        assert point > 28


@pytest.mark.slow
def test_ctrl_c_in_each_phase_stops_cleanly_and_the_same_command_goes_on(scored: Path, tmp_path: Path) -> None:
    command = expanding(scored)
    with Killer(*command) as killer:
        undisturbed = shutil.copytree(scored, tmp_path / "undisturbed")
        assert killer.run(undisturbed) == 0
        phases = set()
        for point in (1, 12, 24, 36, 48):
            stopped = shutil.copytree(scored, tmp_path / f"stopped-{point}")
            assert killer.run(stopped, point, signal.SIGINT) == 130
            assert not list(stopped.rglob(".*.neat-tmp"))
            staged = len(list(stopped.glob(".round/0*.arrow")))
            phases.add((bool(staged), len(list(stopped.glob("round-0001/*.arrow"))) > 0))
            assert killer.run(stopped) == 0
            assert contents(stopped) == contents(undisturbed)
        assert phases == {(False, False), (True, False), (True, True)}  # before, while sampling, while scoring
