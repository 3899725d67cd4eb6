"""Nothing that lies in a run is run, loaded from a path, or trusted for what a back end may do."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from neat_data.errors import InputError
from neat_train.cli import app
from neat_train.config.reading import read_settings
from neat_train.evaluation.evaluate import EvalRequest, evaluate
from neat_train.evaluation.subject import open_subject
from neat_train.fitting import FitRequest, FitSummary, fit
from neat_train.policy.export import RunExportRequest, export
from neat_train.training.checkpoints import MARK, seal
from tests.support.online import scored_dataset
from tests.support.planting import Planted, change_json

SETS = ("method=rrhf", "max_steps=2", "save_steps=1", "records_per_step=4", "eval_strategy=no", "device=cpu")
SHORT = ("max_length=256", "max_response=32", "token_budget=512")


def train(dataset: Path, policy: Path, out: Path, *sets: str, **more: Any) -> FitSummary:
    return fit(FitRequest(str(dataset), str(policy), out, read_settings(sets=(*SETS, *SHORT, *sets)), **more))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("NEAT_ALIGN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def first(ragged: Path, random_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("first") / "run"
    train(ragged, random_policy, out)
    return out


@pytest.fixture
def run(first: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as one likes."""
    return Path(shutil.copytree(first, tmp_path / "run"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that knows nothing of the run."""
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "another-cache"))


def _seal_anew(checkpoint: Path) -> None:
    """As its author would, so that it counts as whole."""
    (checkpoint / MARK).unlink()
    seal(checkpoint)


def request_of(run: Path, ragged: Path, out: Path, **changes: Any) -> EvalRequest:
    return replace(EvalRequest(str(run), str(ragged), out=out, limit=2, max_new_tokens=2, device="cpu"), **changes)


@pytest.mark.parametrize("rounds", ["rounds.into=run", "rounds.into=dataset"])
def test_a_function_that_a_dataset_names_is_not_run_by_training(tmp_path: Path, random_policy: Path, rounds: str):
    dataset = scored_dataset(tmp_path)
    planted = Planted(dataset / "rm.py", tmp_path / "ran")
    sha256 = hashlib.sha256(planted.file.read_bytes()).hexdigest()
    own = {"backend": "callable", "model": "rm.py:rate", "sha256": sha256}
    change_json(dataset / "dataset.json", lambda manifest: manifest["settings"].update(reward_model=own))
    (dataset / ".reward-model.json").write_text(json.dumps({"model": f"{planted.file}:rate", "chat_template": "auto"}))
    with pytest.raises(InputError, match=r"function rm\.py:rate(.|\n)*rounds\.reward_model FILE\.py:FUNCTION"):
        train(dataset, random_policy, tmp_path / "run", "method=neat", rounds)
    assert not planted.ran
    named = f"rounds.reward_model={planted.file}:rate"
    train(dataset, random_policy, tmp_path / "run", "method=neat", "max_steps=1", "rounds.max_new_tokens=2", named)
    assert planted.ran, "where the user names it, it scores"


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_checkpoint_is_not_opened(
    run: Path, ragged: Path, random_policy: Path, tmp_path: Path, file: str
):
    planted = Planted(tmp_path / "rm.py", tmp_path / "ran")
    for last in (run / "result.json", run / "adapter_model.safetensors"):
        last.unlink()
    shutil.rmtree(run / "checkpoint-2")
    torch.save({"state": planted}, run / "checkpoint-1" / file)
    _seal_anew(run / "checkpoint-1")
    with pytest.raises(InputError, match=r"checkpoint-1: .*holds more than numbers(.|\n)*remove this checkpoint"):
        train(ragged, random_policy, run)
    assert not planted.ran


@pytest.mark.parametrize("name", ["optimizer_0/.metadata", "global_step1/mp_rank_00_model_states.pt"])
def test_a_checkpoint_in_shards_is_not_gone_on_from(
    run: Path, ragged: Path, random_policy: Path, tmp_path: Path, name: str
):
    """The libraries that read it unpickle its index."""
    planted = Planted(tmp_path / "rm.py", tmp_path / "ran")
    (run / "result.json").unlink()
    file = run / "checkpoint-2" / name
    file.parent.mkdir()
    file.write_bytes(pickle.dumps(planted))
    with pytest.raises(InputError, match=r"is a pickle(.|\n)*FULL_STATE_DICT"):
        train(ragged, random_policy, run)
    assert not planted.ran


def test_the_best_checkpoint_is_one_of_the_run(run: Path, ragged: Path, random_policy: Path, tmp_path: Path):
    """A path in the state of a checkpoint is not where weights are taken from."""
    sets = ("eval_strategy=steps", "eval_steps=1", "load_best_model_at_end=true", "metric_for_best_model=perplexity")
    sets += ("greater_is_better=false",)
    train(ragged, random_policy, tmp_path / "best", *sets)
    theirs = shutil.copytree(tmp_path / "best" / "checkpoint-1", tmp_path / "theirs" / "checkpoint-1")
    weights = load_file(theirs / "adapter_model.safetensors")
    save_file({name: weight * 0 for name, weight in weights.items()}, theirs / "adapter_model.safetensors")
    (tmp_path / "best" / "result.json").unlink()
    shutil.rmtree(tmp_path / "best" / "checkpoint-2")
    kept = tmp_path / "best" / "checkpoint-1"
    change_json(
        kept / "trainer_state.json",
        lambda state: state.update(best_model_checkpoint=str(theirs), best_metric=-1e9, best_global_step=77),
    )
    _seal_anew(kept)
    train(ragged, random_policy, tmp_path / "best", *sets)
    ended = load_file(tmp_path / "best" / "adapter_model.safetensors")
    assert any(bool(weight.any()) for weight in ended.values())


def _eval(run: Path, ragged: Path, out: Path, base: str | None) -> Any:
    return evaluate(request_of(run, ragged, out, base=base))


def _export(run: Path, ragged: Path, out: Path, base: str | None) -> Any:
    return export(RunExportRequest(run, merged=True, out=out, device="cpu", base=base))


def _go_on(run: Path, ragged: Path, out: Path, base: str | None) -> Any:
    return train(ragged, run, out, "max_steps=1", base=base)


@pytest.mark.parametrize("verb", [_eval, _export, _go_on])
def test_the_folder_that_an_adapter_names_is_not_followed(
    run: Path,
    ragged: Path,
    random_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: Callable[..., Any],
):
    assert verb(run, ragged, tmp_path / "own", None), "one's own is found"
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "another-cache"))
    with pytest.raises(InputError, match=r"no path is followed on a file's word\n.*: base FOLDER"):
        verb(run, ragged, tmp_path / "out", None)
    other = shutil.copytree(random_policy, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: weight * 0 for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"is not the model that .* was trained on"):
        verb(run, ragged, tmp_path / "out", str(other))
    assert verb(run, ragged, tmp_path / "out", str(random_policy))


def test_a_relative_folder_is_no_name_on_the_hub(
    run: Path, random_policy: Path, tmp_path: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(random_policy, tmp_path / "org" / "base")
    monkeypatch.chdir(tmp_path)
    change_json(run / "adapter_config.json", lambda config: config.update(base_model_name_or_path="org/base"))
    with pytest.raises(InputError, match="the folder org/base, and no path"):
        open_subject(str(run), device="cpu")


def test_a_base_that_was_named_once_is_known(run: Path, random_policy: Path, elsewhere: None):
    assert open_subject(str(run), device="cpu", base=str(random_policy)).base == str(random_policy)
    assert open_subject(str(run), device="cpu").base == str(random_policy)


def test_judge_names_the_base_too(run: Path, ragged: Path, elsewhere: None):
    words = ["judge", str(run), "chosen", "--queries", str(ragged), "--judge", "x", "--base-url", "http://127.0.0.1:9"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "--base FOLDER" in result.stderr


def test_a_start_that_a_run_names_is_not_loaded_and_brings_no_code(
    run: Path, ragged: Path, random_policy: Path, tmp_path: Path, elsewhere: None
):
    """Of a folder in the run nothing is read, and code not even where the user trusts the run's own."""
    planted = Planted(run / "rm.py", tmp_path / "ran")
    start = shutil.copytree(random_policy, run / "start")
    shutil.copy(planted.file, start / "code.py")
    change_json(start / "config.json", lambda config: config.update(auto_map={"AutoConfig": "code.Config"}))
    (run / ".policy.json").write_text(json.dumps({"policy": str(start)}))

    def say(settings: dict[str, Any]) -> None:
        settings["content"]["policy"] |= {"model": str(start), "revision": "main"}

    change_json(run / "settings.json", say)
    evaluated = evaluate(request_of(run, ragged, tmp_path / "e", base=str(random_policy), trust_remote_code=True))
    assert evaluated.result.start is None
    assert not planted.ran


@pytest.mark.parametrize("argument", [{"trust_remote_code": True}, {"attn_implementation": "evil/kernel"}])
def test_a_run_says_nothing_of_what_the_back_end_of_a_reward_model_may_do(
    run: Path, ragged: Path, tiny_reward: Path, tmp_path: Path, argument: dict[str, Any]
):
    request = request_of(run, ragged, tmp_path / "e", rewards=(str(tiny_reward),))
    scored = evaluate(request).result.reward_models["tiny-reward"]
    reward = {**scored, "model_args": argument}
    change_json(run / "settings.json", lambda settings: settings["content"].update(reward_model=reward))
    (name,) = argument
    with pytest.raises(InputError, match=rf"{name}=.* is not done on a file's word\.\n.*: model_args KEY=VALUE"):
        evaluate(replace(request, out=tmp_path / "other"))
    if name == "attn_implementation":
        said = replace(request, out=tmp_path / "other", reward_args=("attn_implementation=eager",))
        assert evaluate(said).result.reward_models["tiny-reward"]["model_args"] == {"attn_implementation": "eager"}
