"""`fit` from end to end on a small scale: what it refuses, what it leaves, and what a kill or a full disk changes."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from typer.testing import CliRunner

from neat_data.errors import InputError, RunError
from neat_data.record import Message, query_id
from neat_train.cli import app
from neat_train.config.reading import read_settings
from neat_train.config.settings import METHODS
from neat_train.fitting import FitRequest, FitSummary, fit
from neat_train.losses.own import load_own
from neat_train.policy import logprobs
from neat_train.training.checkpoints import is_whole

# Dropout makes every step depend on the random state.
SETS = (
    "method=rrhf",
    "max_steps=7",
    "records_per_step=5",
    "save_steps=2",
    "save_total_limit=9",
    "eval_strategy=no",
    "learning_rate=1e-3",
    "lora.dropout=0.1",
    "token_budget=200",
    "max_response=64",
    "max_length=256",
    "device=cpu",
)


def train(dataset: Path, policy: Path, out: Path, *sets: str, callbacks=()) -> FitSummary:
    settings = read_settings(sets=(*SETS, *sets))
    return fit(FitRequest(str(dataset), str(policy), out, settings), callbacks=callbacks)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def state(folder: Path) -> list[Any]:
    """Everything of a checkpoint that decides what comes after it."""
    files = [
        torch.load(folder / name, weights_only=False) for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    ]
    return [weights(folder), *files]


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool((one == other).all()) if hasattr(one, "shape") else one == other


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "train_runtime" not in row]


def assert_equal_runs(one: Path, other: Path) -> None:
    assert same(weights(one), weights(other))
    assert same(state(one / "checkpoint-7"), state(other / "checkpoint-7"))
    assert metrics(one) == metrics(other)


@pytest.fixture(scope="module")
def undisturbed(ragged, random_policy, tmp_path_factory) -> Path:
    """A run from its start to its end, to compare with."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert not train(ragged, random_policy, run).already
    return run


def test_pairs_are_kept_of_what_is_trained_and_of_nothing_that_is_held_out(ragged, random_policy, tmp_path):
    sets = ("method=dpo", "loss.ranking.pairs=best-worst", "max_steps=1", "records_per_step=16", "eval_strategy=steps")

    def trained(name: str, *more: str) -> tuple[float, dict[str, Any]]:
        rows = metrics(train(ragged, random_policy, tmp_path / name, *sets, "held_out.samples_shown=1", *more).run)
        at_start = next(row for row in rows if row["step"] == 0)
        return next(row["records"] for row in rows if "records" in row), at_start

    everything, held_out = trained("all")
    kept, same_held_out = trained("some", "keep_pairs=large-gap:3")
    assert everything > 6
    assert kept == 3
    assert same_held_out == held_out
    with pytest.raises(InputError, match="keep_pairs"):
        trained("some", "keep_pairs=random:3")
    with pytest.raises(InputError, match="to keep 99 of"):
        trained("more", "keep_pairs=random:99")


@pytest.fixture
def finished(undisturbed, tmp_path) -> Path:
    """A finished run to do something to."""
    return Path(shutil.copytree(undisturbed, tmp_path / "finished"))


class Dies(TrainerCallback):
    """Kills the process after a step, or in the middle of a checkpoint."""

    def __init__(self, when: str) -> None:
        self.when = when

    def on_step_end(self, args, state, control, **_) -> None:
        if self.when == "training" and state.global_step == 3:
            die()
        if self.when == "saving" and state.global_step == 4:
            torch.save = die


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(dataset: str, policy: str, run: str, when: str) -> None:
    """In a process of its own."""
    train(Path(dataset), Path(policy), Path(run), callbacks=[Dies(when)])


@pytest.mark.parametrize("when", [pytest.param("training", marks=pytest.mark.slow), "saving"])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(
    when, undisturbed, ragged, random_policy, tmp_path, forks
):
    run = tmp_path / "killed"
    assert forks.run(__file__, "train_and_die", ragged, random_policy, run, when) == [-signal.SIGKILL]
    assert is_whole(run / "checkpoint-2")
    assert (run / "checkpoint-4").exists() == (when == "saving")
    assert not is_whole(run / "checkpoint-4")
    train(ragged, random_policy, run)
    assert_equal_runs(run, undisturbed)
    assert [json.loads((one / "result.json").read_text())["session_began"] for one in (undisturbed, run)] == [0, 2]


def test_a_run_killed_behind_its_last_step_only_writes_what_is_missing(finished, ragged, random_policy, tmp_path):
    before, rows = weights(finished), metrics(finished)
    for name in ("result.json", "adapter_model.safetensors"):
        (finished / name).unlink()
    assert not train(ragged, random_policy, finished).already
    assert same(weights(finished), before)
    assert not (finished / "checkpoint-8").exists()
    assert metrics(finished) == rows
    assert json.loads((finished / "result.json").read_text())["session_began"] is None  # nothing was left to train


def test_a_finished_run_is_left_as_it_is(finished, ragged, random_policy):
    before = (finished / "adapter_model.safetensors").stat().st_mtime_ns
    assert train(ragged, random_policy, finished, "logging_steps=2").already
    assert (finished / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_another_configuration_is_refused_by_what_differs(finished, ragged, random_policy, tiny_policy):
    with pytest.raises(InputError, match=r"another configuration \(training.learning_rate: 0.001 -> 0.002\)"):
        train(ragged, random_policy, finished, "learning_rate=2e-3")
    with pytest.raises(InputError, match=r"another configuration \(policy\.config"):
        train(ragged, tiny_policy, finished)


def test_other_data_is_another_configuration(finished, stored, random_policy):
    other = stored([("a?", {"b": 1.0, "c": 0.0}), ("b?", {"d": 1.0, "c": 0.0})], "other")
    with pytest.raises(InputError, match=r"another configuration \(dataset\.sha256"):
        train(other, random_policy, finished)


def test_a_folder_that_holds_something_else_is_left_alone(ragged, random_policy, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        train(ragged, random_policy, tmp_path / "thesis")


def test_data_in_which_nothing_differs_is_refused(stored, random_policy, tmp_path):
    flat = stored([("a?", {"b": 1.0, "c": 1.0}), ("b?", {"d": 0.0})])
    with pytest.raises(InputError, match="no record has two responses with different rewards"):
        train(flat, random_policy, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("method=list-dpo",), "no record has two responses with different rewards"),
        (("method=simpo", "loss.ranking.pairs=best-worst"), "no record has two responses with different rewards"),
        (("method=sft", "sft.target=best-of-n"), "nothing_sampled 2"),
        (("method=infonca", "where=query_id = ''"), "is true for no record"),
    ],
)
def test_data_without_what_a_loss_compares_is_refused_by_method_and_reason(
    stored, random_policy, tmp_path, sets, words
):
    flat = stored([("a?", {"b": 1.0, "c": 1.0}), ("b?", {"d": 0.0})])
    with pytest.raises(InputError, match=words):
        train(flat, random_policy, tmp_path / "run", *sets, "held_out.share=0")


def test_single_responses_are_nothing_for_a_list_or_a_pair(stored, random_policy, tmp_path):
    single = stored([("a?", {"b": 1.0}), ("b?", {"d": 0.0})])
    with pytest.raises(InputError, match=r"two responses with a reward, which method nca compares"):
        train(single, random_policy, tmp_path / "run", "method=nca")
    with pytest.raises(InputError, match=r"(?s)method dpo: .*no_label 2.*pairs=best-worst"):
        train(single, random_policy, tmp_path / "run", "method=dpo", "held_out.share=0")


OWN_DPO = """
import torch.nn.functional as F

def loss(logps, reference):
    ratio = logps - reference
    return -F.logsigmoid(0.1 * (ratio[0] - ratio[-1]))
"""


def test_dpo_begins_at_log_2_and_is_what_a_user_writes_down_as_dpo(stored, random_policy, tmp_path):
    data = stored(
        [(f"{number}?", {f"good {number}": 1.0, "bad": 0.0, f"worst {number} " * 3: -1.0}) for number in range(6)]
    )
    theirs = ("method=dpo", "loss.ranking.pairs=best-worst", "max_steps=3")
    train(data, random_policy, tmp_path / "dpo", *theirs, "lora.dropout=0")
    (tmp_path / "mine.py").write_text(OWN_DPO)
    own = load_own(f"{tmp_path / 'mine.py'}:loss")
    alike = [pair for pair in SETS if not pair.startswith(("method", "lora", "max_steps"))]
    settings = read_settings(sets=(*alike, "max_steps=3"), own=own.settings)
    fit(FitRequest(str(data), str(random_policy), tmp_path / "own", settings, own=own))
    logged = [
        [row["ranking"] for row in map(json.loads, (tmp_path / name / "metrics.jsonl").open()) if "ranking" in row]
        for name in ("dpo", "own")
    ]
    assert logged[0][0] == pytest.approx(math.log(2), abs=1e-6)
    assert logged[0][-1] < math.log(2) - 1e-4
    assert logged[1] == pytest.approx(logged[0], abs=1e-5)
    mine = weights(tmp_path / "own")
    for name, weight in weights(tmp_path / "dpo").items():
        assert torch.allclose(weight, mine[name], atol=1e-5)


def test_a_penalty_for_what_was_never_sampled_is_refused(ragged, random_policy, tmp_path):
    sets = ("method=neat", "rounds.prompts=null", "loss.penalty.target=negative_prompt")
    with pytest.raises(InputError, match=r"(?s)target negative_prompt, and no response .*neat-data expand"):
        train(ragged, random_policy, tmp_path / "run", *sets)


def test_an_expression_that_nothing_satisfies_is_refused(ragged, random_policy, tmp_path):
    with pytest.raises(InputError, match="is true for no record"):
        train(ragged, random_policy, tmp_path / "run", "where=turns > 3")


def test_the_run_folder_holds_a_model_its_settings_and_its_curves(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    assert {"settings.json", "metrics.jsonl", "adapter_model.safetensors", "curves.png", "README.md"} <= names
    assert {"checkpoint-2", "checkpoint-4", "checkpoint-7"} <= names
    settings = json.loads((undisturbed / "settings.json").read_text())
    assert settings["settings"]["loss"]["beta"] == 0
    assert len(settings["fingerprint"]) == 64
    assert "/" not in json.dumps(settings["content"])
    AutoPeftModelForCausalLM.from_pretrained(undisturbed)
    AutoPeftModelForCausalLM.from_pretrained(undisturbed / "checkpoint-2")


def neat_train(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def options(*sets: str) -> list[str]:
    return [part for given in (*SETS, *sets) for part in ("--set", given)]


def test_a_row_that_is_no_number_stops_the_command_with_a_status_of_its_own(stored, random_policy, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(random_policy)
    model = AutoModelForCausalLM.from_pretrained(random_policy)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("~")] = torch.nan
    model.save_pretrained(tmp_path / "damaged")
    tokenizer.save_pretrained(tmp_path / "damaged")
    queries = [f"{'and so on ' * 20}{number}{'~' if number == 3 else ''}" for number in range(5)]
    dataset = stored([(query, {"yes it is": 1.0, "no": 0.0}) for query in queries])
    guilty = query_id((Message("user", queries[3]),))
    line = ("fit", dataset, "--policy", tmp_path / "damaged", "--out", tmp_path / "run")
    result = neat_train(*line, "--model-arg", "tree_attention=varlen", *options("token_budget=64"))
    assert result.exit_code == 3, result.output
    way = f"path trees, attention neat_trees_varlen, query {guilty}"
    assert re.search(rf"stopped at step 1: a log-probability is not finite in row \d of \d \({way}\)", result.stderr)
    assert "Traceback" not in result.output


@pytest.mark.parametrize("full", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_the_attention_that_is_asked_for_trains_and_a_frozen_copy_takes_it_too(
    full, ragged, random_policy, tmp_path, monkeypatch
):
    """The penalty's reference is a frozen copy where all of the policy is trained, else the policy without adapter."""
    without = tuple(given for given in SETS if "dropout" not in given)
    monkeypatch.setattr(sys.modules[__name__], "SETS", without)
    sets = ("method=neat", "rounds.prompts=null", "max_steps=2", "logging_steps=1", f"full={full}")
    taken, plant = [], logprobs.plant

    def noted(lengths, attention, *others):
        taken.append((attention, torch.is_grad_enabled()))
        return plant(lengths, attention, *others)

    monkeypatch.setattr(logprobs, "plant", noted)
    for name in ("sdpa", "varlen"):
        train(ragged, random_policy, tmp_path / name, *sets, f"model_args.tree_attention={name}")
        trained = [attention for attention, gradients in taken if gradients]
        rest = taken[taken.index((f"neat_trees_{name}", True)) - 1 :]  # the reference of a row comes before it
        assert set(trained) == {f"neat_trees_{name}"}
        computing = json.loads((tmp_path / name / "settings.json").read_text())["computing"]
        assert computing == {"path": "trees", "attention": f"neat_trees_{name}"}
        assert {attention for attention, _ in rest} == {f"neat_trees_{name}"}
        assert {gradients for _, gradients in rest} == {True, False}
        taken.clear()
    for one, other in zip(metrics(tmp_path / "sdpa"), metrics(tmp_path / "varlen"), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_an_attention_that_does_not_run_here_is_refused_before_anything_is_trained(ragged, random_policy, tmp_path):
    with pytest.raises(InputError, match=r"^tree_attention=flex: it does not run here"):
        train(ragged, random_policy, tmp_path / "run", "model_args.tree_attention=flex")
    with pytest.raises(InputError, match=r"^tree_attention=flash: unknown"):
        train(ragged, random_policy, tmp_path / "run", "model_args.tree_attention=flash")
    assert not (tmp_path / "run").exists()


class Full(TrainerCallback):
    """From a step on no file may grow beyond some bytes, which is how a full disk looks to those who write."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def file_sizes_put_back() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_while_saving_leaves_the_last_checkpoint_to_go_on_from(
    undisturbed, ragged, random_policy, tmp_path
):
    run = tmp_path / "full"
    with (
        file_sizes_put_back(),
        pytest.raises(RunError, match=r"(?s)disk is full: .*checkpoint-4 .*run the same command"),
    ):
        train(ragged, random_policy, run, callbacks=[Full(3)])
    assert is_whole(run / "checkpoint-2")
    assert not (run / "checkpoint-4").exists()
    train(ragged, random_policy, run)
    assert_equal_runs(run, undisturbed)


@pytest.mark.slow  # three processes import torch; `test_trainer` compares the gradients of two
def test_the_command_trains_in_two_processes_as_in_one(ragged, random_policy, tmp_path):
    train(ragged, random_policy, tmp_path / "one", "lora.dropout=0")
    sets = options("lora.dropout=0")
    line = [sys.executable, "-m", "neat_train", "fit", str(ragged), "--policy", str(random_policy), *sets]
    done = subprocess.run(
        [*line, "--out", str(tmp_path / "two"), "--nproc", "2", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(tmp_path / "two")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-5)
    for alone, together in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert together == pytest.approx(alone, rel=1e-3)


def test_the_help_names_every_way_to_set_something():
    output = CliRunner().invoke(app, ["fit", "--help"]).output
    assert all(
        name in output for name in ("--set", "--settings", "--nproc", "--preset", "--eval-data", "--load-in-4bit")
    )
    words = re.sub(r"\s+", " ", output).replace("- ", "-")
    assert all(re.search(rf"\b{name}\b", words) for name in (*METHODS, "FILE.py:FUNCTION"))
