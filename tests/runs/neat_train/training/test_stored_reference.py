"""The reference's log-probabilities are computed once for each response, and a resumed run reads the same ones."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from neat_data.errors import InputError
from neat_train.config.reading import read_settings
from neat_train.data.batches import MicroBatch, micro_batches
from neat_train.data.examples import Example, TrainedResponse
from neat_train.distributed import Ranks
from neat_train.fitting import FitRequest, fit, steps
from neat_train.policy.policy import Policy
from neat_train.training.stored_reference import StoredReference

SETS = (
    *("method=dpo", "num_train_epochs=2", "records_per_step=5", "save_steps=2", "save_total_limit=9"),
    *("eval_strategy=no", "learning_rate=1e-2", "token_budget=200", "max_response=64", "max_length=256", "device=cpu"),
    "held_out.share=0",
)


def train(dataset: Path, policy: Path, run: Path, *callbacks: TrainerCallback) -> dict[str, torch.Tensor]:
    fit(FitRequest(str(dataset), str(policy), run, read_settings(sets=SETS)), callbacks=callbacks)
    return load_file(run / "adapter_model.safetensors")


@pytest.fixture
def passes(monkeypatch) -> list[None]:
    """One entry for every pass of the reference."""
    seen, reference = [], Policy.reference

    @contextmanager
    def counted(policy: Policy):
        seen.append(None)
        with reference(policy) as module:
            yield module

    monkeypatch.setattr(Policy, "reference", counted)
    return seen


def stored(run: Path) -> dict[bytes, list[float]]:
    parts = [pa.ipc.open_file(path).read_all() for path in sorted((run / "reference").glob("*.arrow"))]
    rows = [row for part in parts for row in part.to_pylist()]
    values = {row["response"]: row["logps"] for row in rows}
    assert len(values) == len(rows)  # none twice
    return values


def test_the_reference_runs_in_the_first_epoch_alone_and_training_is_the_same(
    ragged, random_policy, tmp_path, passes, monkeypatch
):
    weights = train(ragged, random_policy, tmp_path / "run")
    once = len(passes)
    assert stored(tmp_path / "run")
    monkeypatch.setattr(steps, "_stored_reference", lambda run: None)
    expected = train(ragged, random_policy, tmp_path / "without")
    assert len(passes) - once > once  # micro-batches of the second epoch are other ones, and as many but for a few
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-5)


class Stops(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_that_goes_on_reads_what_was_stored(step, ragged, random_policy, tmp_path):
    expected = train(ragged, random_policy, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        train(ragged, random_policy, tmp_path / "run", Stops(step))
    weights = train(ragged, random_policy, tmp_path / "run")
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    assert stored(tmp_path / "run") == stored(tmp_path / "undisturbed")


def test_one_epoch_stores_nothing(ragged, random_policy, tmp_path):
    settings = read_settings(sets=(*SETS, "num_train_epochs=1"))
    fit(FitRequest(str(ragged), str(random_policy), tmp_path / "run", settings))
    assert not (tmp_path / "run" / "reference").exists()


def batch_of(*answers: tuple[int, ...], query: tuple[int, ...] = (5, 6)) -> MicroBatch:
    example = Example(
        "q", query, tuple(TrainedResponse(str(place), ids, float(-place)) for place, ids in enumerate(answers))
    )
    return micro_batches([example], 100, "trees")[0]


def test_values_are_kept_by_the_tokens_of_query_and_response(tmp_path):
    reference = StoredReference(tmp_path, Ranks())
    reference.add(batch_of((7, 8), (9,)), torch.tensor([-1.0, -2.0, -3.0]))
    assert reference.get(batch_of((9,), (7, 8))).tolist() == [-3.0, -1.0, -2.0]
    assert reference.get(batch_of((7,))) is None
    assert reference.get(batch_of((8,), query=(5, 6, 7))) is None  # the same ids, parted elsewhere
    reference.write(3)
    assert StoredReference(tmp_path, Ranks()).get(batch_of((7, 8))).tolist() == [-1.0, -2.0]


def test_ranks_learn_from_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(Ranks, "barrier", lambda ranks: None)  # here one process is both
    first, second = (StoredReference(tmp_path, Ranks(rank, 2)) for rank in (0, 1))
    first.add(batch_of((7, 8)), torch.tensor([-1.0, -2.0]))
    second.add(batch_of((9,)), torch.tensor([-3.0]))
    first.write(4)
    second.share(4)
    first.share(4)
    for reference in (first, second):
        assert reference.get(batch_of((7, 8), (9,))).tolist() == [-1.0, -2.0, -3.0]


@pytest.mark.parametrize("content", [b"", b"ARROW1 and no more", pa.py_buffer(b"x" * 100).to_pybytes()])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "00000002-0.arrow").write_bytes(content)
    with pytest.raises(InputError, match=r"00000002-0\.arrow: not what a run stores there"):
        StoredReference(tmp_path, Ranks())
