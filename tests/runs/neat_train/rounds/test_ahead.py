"""`rounds.ahead 1`: the next block is made in a process of its own, with weights that are a block older."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import neat_data
from neat_data.errors import InputError, RunError
from neat_data.record import Record
from neat_data.store.verify import verify
from neat_train.config.contradictions import refuse_contradictions
from neat_train.config.settings import identifying
from neat_train.distributed import Ranks
from tests.support.online import Run, nudge, scored_dataset, settings_of

AHEAD: dict[str, Any] = {"rounds": {"ahead": 1}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_dataset(tmp_path_factory.mktemp("ahead"))


def labels(records: list[Record]) -> set[str]:
    """Hashes of the policies that sampled something of these."""
    return {r.model.rpartition(":")[2] for record in records for r in record.responses if r.round and r.model}


@pytest.mark.slow
def test_a_block_is_sampled_with_the_weights_of_the_block_before(dataset: Path, tmp_path: Path) -> None:
    run = Run.of(dataset, tmp_path / "run", **AHEAD)
    source = run.source()
    hashes, newest, ages = [], [], []
    for step in range(3):
        hashes.append(run.policy.trained_hash()[:12])
        records = source.step(step)
        newest.append(labels(records))
        figures = source.metrics()
        ages.append((figures["round/staleness"], figures["round/staleness_max"]))
        nudge(run.policy, records)
    source.close()
    assert len(set(hashes)) == 3
    assert newest[:2] == [{hashes[0]}, {hashes[0]}]
    assert hashes[1] in newest[2]
    assert hashes[2] not in newest[2]
    assert ages[:2] == [(0, 0), (1, 1)]
    source.saved(3)
    manifest = neat_data.open(run.folder / "dataset").manifest
    (round,) = [round for round in manifest.rounds if round.kind == "online"]
    assert round.settings["ahead"] == 1
    assert [said[2:] for said in round.settings["blocks"]] == [[], [0], [1]]
    assert verify(run.folder / "dataset").ok


@pytest.mark.slow
def test_a_run_that_was_stopped_comes_to_the_same_samples(dataset: Path, tmp_path: Path) -> None:
    whole = Run.of(dataset, tmp_path / "whole", **AHEAD)
    whole.train(4, save=2).close()
    hashed = whole.policy.trained_hash()
    Run.of(dataset, tmp_path / "parts", **AHEAD).train(3, save=2).close()  # its third step is lost
    for path in (tmp_path / "parts" / "online").glob("*.arrow"):
        path.unlink()  # as if it had been killed before any sample was committed
    again = Run.of(dataset, tmp_path / "parts", **AHEAD)
    again.train(4, save=2).close()
    assert sorted(again.seen) == [2, 3]
    for step in again.seen:
        assert plain(again.seen[step]) == plain(whole.seen[step])
    assert again.policy.trained_hash() == hashed


def plain(records: list[Record]) -> list[dict[str, Any]]:
    return [record.to_dict() for record in records]


def test_a_process_that_dies_is_told(dataset: Path, tmp_path: Path) -> None:
    run = Run.of(dataset, tmp_path / "run", **AHEAD)
    source = run.source()
    source.step(0)
    assert source._ahead is not None
    source._ahead._process.kill()
    source._ahead._process.join()
    with pytest.raises(RunError, match="the process that samples ahead ended with status -9"):
        source.step(1)


def test_it_goes_with_one_process_and_the_model_itself(dataset: Path, tmp_path: Path) -> None:
    run = Run.of(dataset, tmp_path / "run", **AHEAD)
    run.source()  # makes what the ranks would wait for each other with
    with pytest.raises(InputError, match="leave out nproc"):
        replace(run, ranks=_Two()).source()
    with pytest.raises(InputError, match=r"rounds\.ahead 1 and rounds\.sampler vllm"):
        refuse_contradictions(settings_of(rounds={"ahead": 1, "sampler": "vllm"}))


class _Two(Ranks):
    """The first of two ranks, alone."""

    def __init__(self) -> None:
        super().__init__(0, 2)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        """Nobody else is there."""


def test_in_turn_is_the_default_and_changes_no_identity() -> None:
    assert "ahead" not in identifying(settings_of())["rounds"]
    assert identifying(settings_of(**AHEAD))["rounds"]["ahead"] == 1
