"""metrics.jsonl: what is logged is what is read, whenever the run was killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from neat_data.errors import InputError, RunError
from neat_train.training.json_lines import append, keep, read_rows
from neat_train.training.metrics import read
from neat_train.training.metrics_file import MetricsFile


def logged(run: Path, step: int, **figures) -> None:
    MetricsFile(run).on_log(None, TrainerState(global_step=step, epoch=step / 10), TrainerControl(), logs=figures)


def go_on(run: Path, step: int) -> None:
    MetricsFile(run).on_train_begin(None, TrainerState(global_step=step), TrainerControl())


def test_every_log_is_a_row_with_its_step_and_nulls_where_it_says_nothing(tmp_path):
    logged(tmp_path, 0, eval_reward=-1.5)
    logged(tmp_path, 1, loss=2, epoch=0.1, grad_norm=torch.tensor(0.5), learning_rate=np.float64(5e-5))
    logged(tmp_path, 2, loss=1.75)
    frame = read(tmp_path)
    assert frame["step"].to_list() == [0, 1, 2]
    assert frame["epoch"].to_list() == [0.0, 0.1, 0.2]
    assert frame["loss"].to_list() == [None, 2.0, 1.75]
    assert frame["eval_reward"].to_list() == [-1.5, None, None]
    assert (frame["grad_norm"][1], frame["learning_rate"][1]) == (0.5, 5e-5)


def test_a_figure_that_appears_after_a_thousand_rows_is_read(tmp_path):
    for step in range(1, 1_200):
        logged(tmp_path, step, loss=1)
    logged(tmp_path, 1_200, loss=0.5, eval_reward=2)
    assert read(tmp_path)["eval_reward"].drop_nulls().to_list() == [2]
    assert read(tmp_path)["loss"][-1] == 0.5


def test_what_is_not_finite_is_null_and_the_line_is_json(tmp_path):
    logged(tmp_path, 1, loss=float("nan"), grad_norm=float("inf"))
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "epoch": 0.1, "loss": None, "grad_norm": None}


def test_a_file_cut_at_any_byte_reads_as_its_whole_lines(tmp_path):
    for step in (1, 2, 3):
        logged(tmp_path, step, loss=1.5, note="Zoë")
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        assert read(tmp_path).height == whole[:end].count(b"\n")
    assert read(tmp_path / "nowhere").height == 0


def test_going_on_cuts_what_the_checkpoint_does_not_know_of_and_a_torn_line(tmp_path):
    for step in range(1, 6):
        logged(tmp_path, step, loss=1.0)
        append(tmp_path / "samples.jsonl", {"step": step, "answer": "yes"})
    logged(tmp_path, 3, train_runtime=3.0)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 6, "lo')
    go_on(tmp_path, 3)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert [row["step"] for row in read_rows(tmp_path / "samples.jsonl")] == [1, 2, 3]
    logged(tmp_path, 4, loss=2.0)
    assert read(tmp_path)["loss"].to_list() == [1.0, 1.0, 1.0, 2.0]
    logged(tmp_path, 0, eval_reward=1.0)
    go_on(tmp_path, 0)
    assert read(tmp_path).height == 0


def test_only_the_main_process_writes(tmp_path):
    state = TrainerState(global_step=1, is_world_process_zero=False)
    MetricsFile(tmp_path).on_log(None, state, TrainerControl(), logs={"loss": 1.0})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: is not JSON"):
        read(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl:1: is no JSON object"):
        read(tmp_path)


def test_text_that_no_encoding_can_hold_comes_back(tmp_path):
    append(tmp_path / "rows.jsonl", {"answer": "lone \ud800, two\nlines"})
    assert read_rows(tmp_path / "rows.jsonl") == [{"answer": "lone \ud800, two\nlines"}]
    keep(tmp_path / "rows.jsonl", lambda row: True)
    assert read_rows(tmp_path / "rows.jsonl") == [{"answer": "lone \ud800, two\nlines"}]


def test_a_full_disk_is_told(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(RunError, match="the disk is full"):
        append(Path("/dev/full"), {"step": 1})


def test_the_callback_takes_what_transformers_hands_it(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True)
    MetricsFile(tmp_path).on_log(args, TrainerState(global_step=1, epoch=0.5), TrainerControl(), logs={"loss": 1.0})
    assert read(tmp_path).to_dicts() == [{"step": 1, "epoch": 0.5, "loss": 1.0}]
