"""Whatever lies in the files of a run, an evaluation, a judgement or a review: what reads them says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neat_data.errors import NeatError
from neat_data.store.reviews import Event, read_events
from neat_train.comparison.compare import compare
from neat_train.comparison.evaluation import read_judged
from neat_train.distributed import Ranks
from neat_train.evaluation.reward_models import scored_before
from neat_train.fitting.steps import at_the_end
from neat_train.policy.export import MergedCard
from neat_train.reports.summary import figures
from neat_train.run_folder import Identity, RunFolder
from neat_train.training.checkpoints import MARK, is_whole
from tests.support.damage import damaged
from tests.support.evaluations import A, write_evaluation, write_judge, write_run

REWARDS = {A: [0.0, 1.0, 2.0]}


def _compared(root: Path) -> None:
    found = compare({"neat": [root / "neat"], "other": [root / "other"]}, judged=[root / "judged"])
    found.to_dict()


def _claimed(root: Path) -> None:
    run = RunFolder(root / "neat", Ranks())
    run.begun_with("dataset")
    run.require(Identity({"method": "neat"}, {"dataset": {"sha256": "d"}}))


def _reviewed(root: Path) -> None:
    read_events((root / "reviews.jsonl").read_bytes(), "reviews.jsonl")


def _of_a_checkpoint(root: Path) -> None:
    assert is_whole(root / "checkpoint-1") in (True, False)
    at_the_end(root / "checkpoint-1")


def _exported(root: Path) -> None:
    if card := MergedCard.of(root / "neat"):
        card.write(root, "Merged.")


READERS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "compare": (
        _compared,
        [
            "neat/settings.json",
            "neat/result.json",
            "neat/metrics.jsonl",
            "neat/eval/test/eval.json",
            "judged/judge.json",
        ],
    ),
    "a claimed run": (_claimed, ["neat/settings.json"]),
    "a judge's result": (lambda root: read_judged(root / "judged", {}), ["judged/judge.json"]),
    "rewards before": (lambda root: scored_before(root / "neat", "nowhere"), ["neat/settings.json"]),
    "a run's result": (lambda root: RunFolder(root / "neat", Ranks()).result(), ["neat/result.json"]),
    "a checkpoint": (_of_a_checkpoint, [f"checkpoint-1/{MARK}", "checkpoint-1/trainer_state.json"]),
    "reviews": (_reviewed, ["reviews.jsonl"]),
    "a card": (_exported, ["neat/README.md"]),
    "figures": (lambda root: figures(root / "neat"), ["neat/metrics.jsonl"]),
}
CASES = [(name, file) for name, (_, files) in READERS.items() for file in files]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    for name in ("neat", "other"):
        run = write_run(place / name, method=name)
        write_evaluation(run / "eval" / "test", REWARDS, method=name)
    declared = {"license": "unknown", "tags": ["lora"], "model-index": [{"name": "a", "results": []}]}
    (place / "neat" / "README.md").write_text(f"---\n{json.dumps(declared)}\n---\n# A run\n")
    (place / "checkpoint-1").mkdir()
    (place / "checkpoint-1" / MARK).write_text(json.dumps({"sizes": {"trainer_state.json": 7}}))
    state = {"global_step": 1, "max_steps": 1, "best_model_checkpoint": None}
    (place / "checkpoint-1" / "trainer_state.json").write_text(json.dumps(state))
    (place / "reviews.jsonl").write_bytes(Event("e", "r" * 16, verdict="keep", labels=("x",)).to_line())
    write_judge(place / "judged", 3, 1, 1, a=str(place / "neat"))
    return place


@pytest.mark.parametrize(("reader", "file"), CASES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_reads_a_damaged_file_says_so(root: Path, reader: str, file: str, data: st.DataObject) -> None:
    path = root / file
    good = path.read_bytes()
    lines = good.splitlines()
    if file.endswith(".md"):
        content = b"---\n" + data.draw(damaged(json.loads(lines[1]))) + b"\n---\n# A run\n"
    elif file.endswith(".jsonl"):
        content = b"".join(line + b"\n" for line in lines) + data.draw(damaged(json.loads(lines[0]))) + b"\n"
    else:
        content = data.draw(damaged(json.loads(good)))
    path.write_bytes(content)
    try:
        with suppress(NeatError):  # an error in words is what is wanted
            READERS[reader][0](root)
    finally:
        path.write_bytes(good)
